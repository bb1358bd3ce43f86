-- Refreshing, ending, clearing and finding locks.
--
-- `_by` says by what right: 0 to 2 the holder, proven by token and principal, token, or principal; 3 the principal alone; 4
-- whoever set it; 5 whoever may break it; 6 nobody yet: only look, the client decides and comes again with 7.
-- Outcomes (`code`): 0 done, 1 lost, 2 not the holder, 3 does not cover the resource, 4 it is being broken, 5 a mark.

CREATE FUNCTION @.asked_1(_space bigint, _now bigint, _token uuid, _id uuid, _by integer, _who bytea, _ns bytea, _path bytea)
RETURNS @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _row @.answer;
  _lock record;
BEGIN
  _row.what := 0;
  _row.at := _now;
  SELECT l.*, @.used_1(_space, l.id, _now) AS used
    INTO _lock FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id;
  IF NOT FOUND THEN
    _row.code := 1;
    RETURN _row;
  END IF;
  _row.id := _lock.id;
  _row.num := _lock.generation;
  _row.state := _lock.state;
  _row.created := _lock.created;
  _row.expires := _lock.expires;
  _row.life_end := _lock.life_end;
  _row.in_use := _lock.used;
  _row.parts := _lock.parts;
  _row.who := _lock.who;
  _row.actor := _lock.actor;
  _row.reason := _lock.reason;
  _row.code := CASE
    WHEN NOT ((_lock.life_end IS NULL OR _lock.life_end > _now) AND (_lock.expires IS NULL OR _lock.expires > _now OR _lock.used)) THEN 1
    WHEN NOT CASE _by
      WHEN 0 THEN _token IS NOT NULL AND _lock.who IS NOT DISTINCT FROM _who AND NOT _lock.frozen
      WHEN 1 THEN _token IS NOT NULL AND NOT _lock.frozen
      WHEN 2 THEN _lock.who IS NOT DISTINCT FROM _who AND NOT _lock.frozen
      WHEN 3 THEN coalesce(_lock.who = _who, false) AND NOT _lock.frozen
      ELSE true END THEN 2
    WHEN _path IS NOT NULL AND NOT (_lock.ns = _ns AND (_lock.path = _path OR (_lock.infinite AND CASE
      WHEN _lock.path = '/' THEN length(_path) > 1
      ELSE substr(_path, 1, length(_lock.path) + 1) = _lock.path || '/' END))) THEN 3
    ELSE 0 END;
  RETURN _row;
END $tower_lock$;

-- A token that nobody has is under an advisory lock from here on, so that no acquire comes by it unseen. Before any row is
-- taken: who has that lock may want one.
CREATE FUNCTION @.hold_1(_space bigint, _token uuid, _key bigint) RETURNS void LANGUAGE plpgsql AS $tower_lock$
BEGIN
  IF _token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM @.locks l WHERE l.space + 0 = _space AND l.token = _token) THEN
    PERFORM pg_advisory_xact_lock(1414287179, (_key >> 1)::integer);
  END IF;
END $tower_lock$;

-- The id of the lock that is meant, its row taken.
CREATE FUNCTION @.meant_1(_space bigint, _token uuid, _id uuid) RETURNS uuid LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _found uuid;
BEGIN
  IF _token IS NULL THEN
    SELECT l.id INTO _found FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id FOR UPDATE;
  ELSE
    SELECT l.id INTO _found FROM @.locks l WHERE l.space + 0 = _space AND l.token = _token FOR UPDATE;
  END IF;
  RETURN _found;
END $tower_lock$;

-- `_asked`: 0 the span it was last given, 1 `_for`, 2 without an end.
CREATE FUNCTION @.refresh_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _token uuid, _key bigint, _id uuid,
  _by integer, _who bytea, _ns bytea, _path bytea, _asked integer, _for bigint)
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _row @.answer;
  _lock @.locks;
  _wanted bigint;
BEGIN
  PERFORM @.take_1(_space, '{}', _wait, true);
  PERFORM @.hold_1(_space, _token, _key);
  IF cardinality(_ended) > 0 THEN
    PERFORM @.end_1(_ended);
  END IF;
  _id := @.meant_1(_space, _token, _id);
  _now := @.now_1(_clock);
  _row := @.asked_1(_space, _now, _token, _id, _by, _who, _ns, _path);
  IF _row.code = 1 AND _id IS NOT NULL THEN
    SELECT l.* INTO _lock FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id;
    PERFORM @.bury_1(_lock, 0, _now, NULL, NULL);
  END IF;
  IF _row.code = 1 AND _token IS NOT NULL THEN
    RETURN QUERY SELECT * FROM @.tokens_1(_space, _now, ARRAY[_token]);
  END IF;
  IF _row.code = 0 AND _row.state <> 1 THEN
    _row.code := CASE _row.state WHEN 0 THEN 5 ELSE 4 END;
  END IF;
  IF _row.code = 0 AND _by <> 6 THEN
    SELECT l.* INTO _lock FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id;
    _wanted := CASE _asked WHEN 0 THEN _lock.span WHEN 1 THEN _for END;
    _wanted := least(_wanted, _lock.most);
    UPDATE @.locks l SET span = _wanted, expires = least(_now + _wanted, l.life_end),
        due = CASE WHEN l.due IS NULL OR l.due > least(_now + _wanted, l.life_end) THEN least(_now + _wanted, l.life_end) ELSE l.due END
      WHERE l.space + 0 = _space AND l.id = _id RETURNING l.* INTO _lock;
    _row.expires := _lock.expires;
    PERFORM @.tell_1(2, _now, _row.in_use, _lock, NULL, NULL, NULL);
  END IF;
  RETURN NEXT _row;
END $tower_lock$;

CREATE FUNCTION @.release_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _token uuid, _key bigint, _id uuid,
  _by integer, _who bytea, _ns bytea, _path bytea, _grace bigint, _reason bytea)
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _row @.answer;
  _lock @.locks;
BEGIN
  PERFORM @.take_1(_space, '{}', _wait, true);
  PERFORM @.hold_1(_space, _token, _key);
  IF cardinality(_ended) > 0 THEN
    PERFORM @.end_1(_ended);
  END IF;
  _id := @.meant_1(_space, _token, _id);
  _now := @.now_1(_clock);
  _row := @.asked_1(_space, _now, _token, _id, _by, _who, _ns, _path);
  IF _id IS NOT NULL THEN
    SELECT l.* INTO _lock FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id;
  END IF;
  IF _row.code = 1 THEN
    IF _id IS NOT NULL THEN
      PERFORM @.bury_1(_lock, 0, _now, NULL, NULL);
    END IF;
    IF _token IS NOT NULL THEN
      RETURN QUERY SELECT * FROM @.tokens_1(_space, _now, ARRAY[_token]);
      IF NOT FOUND THEN
        INSERT INTO @.dead (space, buried, at, token, cause, who) VALUES (_space, _now, _now, _token, 5, _who);
      END IF;
    END IF;
  ELSIF _row.code = 0 AND _by <> 6 THEN
    IF _by <> 5 THEN
      PERFORM @.bury_1(_lock, 1, _now, NULL, NULL);
    ELSIF _grace <= 0 OR _lock.state = 0 THEN
      PERFORM @.bury_1(_lock, 2, _now, _who, _reason);
    ELSE
      -- Who breaks it a second time may shorten the grace, and never lengthens it.
      UPDATE @.locks l SET state = 2, actor = _who, reason = _reason, life_end = least(l.life_end, _now + _grace),
          expires = least(l.expires, l.life_end, _now + _grace), due = least(l.due, l.life_end, _now + _grace)
        WHERE l.space + 0 = _space AND l.id = _id RETURNING l.* INTO _lock;
      _row.state := 2;
      _row.expires := _lock.expires;
      _row.life_end := _lock.life_end;
      _row.code := 4;
      PERFORM @.tell_1(3, _now, _row.in_use, _lock, NULL, _who, _reason);
    END IF;
  END IF;
  RETURN NEXT _row;
END $tower_lock$;

-- Ends the granted locks that go with resources, pinned or not; how many. `_reach`: 0 at, 1 at or below, 2 strictly below.
CREATE FUNCTION @.clear_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _place bigint[], _realm bigint[], _ns bytea[],
  _path bytea[], _reach integer[], _low bytea[], _high bytea[], _from bytea[], _to bytea[])
RETURNS bigint LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _ids uuid[] := '{}';
  _lock @.locks;
  _count bigint := 0;
BEGIN
  PERFORM @.take_1(_space, '{}', _wait, true);
  IF cardinality(_ended) > 0 THEN
    PERFORM @.end_1(_ended);
  END IF;
  FOR _k IN 1..cardinality(_place) LOOP
    _ids := _ids || ARRAY(
      SELECT l.id FROM @.locks l WHERE _reach[_k] < 2 AND l.place = _place[_k] AND l.space + 0 = _space AND l.ns = _ns[_k]
        AND l.path = _path[_k] AND l.state <> 0
      UNION ALL
      SELECT l.id FROM @.locks l WHERE _reach[_k] > 0 AND l.realm = _realm[_k] AND substr(l.path, 1, 1024) >= _low[_k]
        AND substr(l.path, 1, 1024) < _high[_k] AND l.path >= _from[_k] AND l.path < _to[_k] AND l.space + 0 = _space
        AND l.ns = _ns[_k] AND l.state <> 0);
  END LOOP;
  IF cardinality(_ids) > 0 THEN
    PERFORM 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_ids) ORDER BY l.id FOR UPDATE;
    _now := @.now_1(_clock);
    FOR _lock IN SELECT l.* FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_ids) LOOP
      IF (_lock.life_end IS NULL OR _lock.life_end > _now) AND (_lock.expires IS NULL OR _lock.expires > _now OR @.used_1(_space, _lock.id, _now))
      THEN
        PERFORM @.bury_1(_lock, 4, _now, NULL, NULL);
        _count := _count + 1;
      ELSE
        PERFORM @.bury_1(_lock, 0, _now, NULL, NULL);
      END IF;
    END LOOP;
  END IF;
  RETURN _count;
END $tower_lock$;

-- A page of locks in the order of their roots and ids. `_select`: 0 covering, 1 at or below, 2 by id.
CREATE FUNCTION @.find_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _select integer, _id uuid, _places bigint[],
  _place bigint, _realm bigint, _ns bytea, _path bytea, _low bytea, _high bytea, _from bytea, _to bytea, _of boolean, _who bytea,
  _whose bigint, _kind bytea, _older bigint, _after bytea, _after_id uuid, _most bigint)
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _row @.answer;
BEGIN
  IF cardinality(_ended) > 0 THEN
    PERFORM set_config('lock_timeout', _wait::text, true);
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM @.end_1(_ended);
  END IF;
  _now := @.now_1(_clock);
  RETURN QUERY SELECT 1::smallint, 0, NULL::bigint, l.generation, l.id, NULL::uuid, l.state, l.created, l.expires, l.life_end, l.used,
      l.parts, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea
    FROM (
      SELECT a.*, @.used_1(_space, a.id, _now) AS used
      FROM (
        SELECT b.* FROM @.locks b WHERE _select = 2 AND b.space + 0 = _space AND b.id = _id
        UNION ALL
        SELECT c.* FROM @.locks c WHERE _select = 0 AND c.place = ANY(_places) AND (c.infinite OR c.place = _place) AND c.ns = _ns
          AND c.path = substr(_path, 1, length(c.path))
        UNION ALL
        SELECT d.* FROM @.locks d WHERE _select = 1 AND d.place = _place AND d.ns = _ns AND d.path = _path
        UNION ALL
        (SELECT e.* FROM @.locks e WHERE _select = 1 AND NOT _of AND e.realm = _realm AND e.ns = _ns AND e.space + 0 = _space
          AND substr(e.path, 1, 1024) >= greatest(_low, substr(_after, 1, 1024)) AND substr(e.path, 1, 1024) < _high
          AND e.path >= _from AND e.path < _to AND (_after IS NULL OR (e.path, e.id) > (_after, _after_id))
          AND (_kind IS NULL OR e.kind = _kind) AND (_older IS NULL OR e.created <= _now - _older)
          AND (e.life_end IS NULL OR e.life_end > _now) AND (e.expires IS NULL OR e.expires > _now OR @.used_1(_space, e.id, _now))
          ORDER BY substr(e.path, 1, 1024), e.path, e.id LIMIT _most)
        UNION ALL
        SELECT f.* FROM @.locks f WHERE _select = 1 AND _of AND f.whose = _whose AND f.ns = _ns
          AND f.path >= _from AND f.path < _to
      ) a
      WHERE a.space = _space AND (NOT _of OR a.who IS NOT DISTINCT FROM _who) AND (_kind IS NULL OR a.kind = _kind)
        AND (_older IS NULL OR a.created <= _now - _older) AND (_after IS NULL OR (a.path, a.id) > (_after, _after_id))
    ) l
    WHERE (l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR l.used)
    ORDER BY l.path, l.id LIMIT _most;
  _row.what := 0;
  _row.at := _now;
  RETURN NEXT _row;
END $tower_lock$;
