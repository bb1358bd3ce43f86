-- Grants all the locks asked for or none; or sets marks, while writes are in flight.
--
-- Outcomes (`code`): 0 granted, 1 repeated, 2 conflict, 3 busy for `at` microseconds, 4 over the principal's quota, 5 over the
-- store's, 6 taken, 7 lost, 8 not the holder, 9 marks are set, 10 all depends on excuses, 11 tell whether this caller may
-- replace that lock, 12 many ended locks were cleared away, ask again. The error TL002: ask again, and count.

CREATE FUNCTION @.acquire_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _keys bigint[], _who bytea, _proof integer,
  _proven uuid[], _id uuid[], _token uuid[], _place bigint[], _realm bigint[], _ns bytea[], _path bytea[], _exclusive boolean[],
  _infinite boolean[], _freeze boolean[], _kind bytea[], _holder bytea[], _whose bigint[], _parts bytea[], _chain bigint[],
  _chain_end integer[], _low bytea[], _high bytea[], _from bytea[], _to bytea[], _swap_token uuid[], _swap_id uuid[],
  _swap_reason bytea[], _span bigint, _most bigint, _total bigint, _drain bigint, _of_principal bigint, _of_store bigint,
  _counting boolean, _within uuid, _blockers integer, _itself integer, _excused uuid[], _excuses uuid[],
  _asked uuid)
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _row @.answer;
  _lock record;
  _all @.locks;
  _new integer := cardinality(_id);
  _swaps uuid[] := '{}';
  _found bigint;
  _above bigint[];
  _live uuid[] := '{}';
  _over uuid[] := '{}';
  _lost boolean := false;
  _taken boolean := (_itself & 2) <> 0;
  _pending boolean := false;
  _repeated uuid[] := '{}';
  _perhaps uuid[] := '{}';
  _certain boolean := false;
  _cool bigint;
  _numbers bigint[] := '{}';
  _code integer;
BEGIN
  PERFORM @.take_1(_space, _keys, _wait, true);
  IF cardinality(_ended) > 0 THEN
    PERFORM @.end_1(_ended);
  END IF;
  -- Before any row that is only in the way: who waits for one of these may have one of those.
  IF cardinality(_swap_id) > 0 THEN
    PERFORM 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_swap_id || ARRAY(
      SELECT o.id FROM @.locks o WHERE o.space + 0 = _space AND o.token = ANY(_swap_token))) ORDER BY l.id FOR UPDATE;
  END IF;
  _now := @.now_1(_clock);
  IF random() < 0.125 THEN
    PERFORM @.sweep_1(_space, _now, 64);
  END IF;

  -- What the proposed tokens and ids alone decide.
  IF _taken OR EXISTS (SELECT 1 FROM @.locks l WHERE l.space + 0 = _space AND l.token = ANY(_token))
    OR EXISTS (SELECT 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id))
    OR EXISTS (SELECT 1 FROM @.dead d WHERE d.space + 0 = _space AND d.token = ANY(_token) AND d.buried > _now - 3600000000)
    OR EXISTS (SELECT 1 FROM @.dead d WHERE d.space + 0 = _space AND d.id = ANY(_id) AND d.buried > _now - 3600000000)
  THEN
    PERFORM @.expire_1(_space, ARRAY(SELECT l.id FROM @.locks l
      WHERE l.space + 0 = _space AND l.id = ANY(_id || ARRAY(SELECT o.id FROM @.locks o WHERE o.space + 0 = _space AND o.token = ANY(_token)))
      AND NOT ((l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now)))
      ORDER BY l.id), _now);
    FOR _k IN 1.._new LOOP
      SELECT l.* INTO _lock FROM @.locks l WHERE l.space + 0 = _space AND l.token = _token[_k];
      IF FOUND AND _lock.who IS NOT DISTINCT FROM _holder[_k] AND _lock.ns = _ns[_k] AND _lock.path = _path[_k]
        AND _lock.exclusive = _exclusive[_k] AND _lock.infinite = _infinite[_k]
      THEN
        _pending := _pending OR _lock.state = 0;
        _repeated := _repeated || _lock.id;
        CONTINUE;
      END IF;
      IF FOUND THEN
        _taken := true;
      ELSE
        FOR _row IN SELECT * FROM @.tokens_1(_space, _now, ARRAY[_token[_k]]) t WHERE t.what = 3 ORDER BY t.created DESC LIMIT 1 LOOP
          _lost := true;
          RETURN NEXT _row;
        END LOOP;
      END IF;
      _taken := _taken OR EXISTS (SELECT 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id[_k]);
      IF NOT _lost AND EXISTS (SELECT 1 FROM @.dead d WHERE d.space + 0 = _space AND d.id = _id[_k] AND d.buried > _now - 3600000000) THEN
        -- Ids prove nothing, so nothing is told of the lock that had this one.
        _lost := true;
        _row := NULL;
        _row.what := 3;
        _row.code := 5;
        RETURN NEXT _row;
      END IF;
    END LOOP;
    _row := NULL;
    _row.what := 0;
    _row.at := _now;
    _row.code := CASE WHEN _lost THEN 7
      WHEN _taken OR (cardinality(_repeated) > 0 AND cardinality(_repeated) <> _new) THEN 6
      WHEN _pending THEN 3
      WHEN cardinality(_repeated) > 0 THEN 1 END;
    IF _row.code IS NOT NULL THEN
      IF _row.code = 3 THEN
        _row.num := 1000000;
      END IF;
      RETURN NEXT _row;
      IF _row.code = 1 THEN
        RETURN QUERY SELECT * FROM @.tokens_1(_space, _now, _token) t WHERE t.what = 2;
      END IF;
      RETURN;
    END IF;
  END IF;

  -- The locks to be replaced, if the caller may replace them.
  FOR _k IN 1..cardinality(_swap_id) LOOP
    SELECT l.*, @.used_1(_space, l.id, _now) AS used
      INTO _lock FROM @.locks l
      WHERE l.space + 0 = _space AND l.id = CASE WHEN _swap_token[_k] IS NULL THEN _swap_id[_k]
        ELSE (SELECT o.id FROM @.locks o WHERE o.space + 0 = _space AND o.token = _swap_token[_k]) END;
    _code := NULL;
    -- By a token, or broken for a reason; one of the caller's own by its id has neither.
    IF NOT FOUND OR _lock.state = 0 OR (_lock.state = 2 AND _swap_reason[_k] IS NULL)
      OR NOT ((_lock.life_end IS NULL OR _lock.life_end > _now) AND (_lock.expires IS NULL OR _lock.expires > _now OR _lock.used))
    THEN
      _code := 7;
    ELSIF _swap_token[_k] IS NOT NULL AND (_lock.frozen OR CASE _proof
        WHEN 0 THEN _lock.who IS DISTINCT FROM _who
        WHEN 1 THEN false
        WHEN 2 THEN _lock.who IS DISTINCT FROM _who
        ELSE false END)
    THEN
      _code := 8;
    ELSIF _swap_token[_k] IS NULL AND _swap_reason[_k] IS NULL AND (_lock.frozen OR _who IS NULL OR _lock.who IS DISTINCT FROM _who) THEN
      _code := 8;
    ELSIF _swap_token[_k] IS NOT NULL AND _proof = 3 AND NOT _lock.id = ANY(_proven) THEN
      _code := 11;
    END IF;
    IF _code IS NOT NULL THEN
      IF _swap_token[_k] IS NOT NULL AND _code IN (7, 11) THEN
        RETURN QUERY SELECT * FROM @.tokens_1(_space, _now, ARRAY[_swap_token[_k]]);
      END IF;
      _row := NULL;
      _row.what := 0;
      _row.code := _code;
      _row.at := _now;
      RETURN NEXT _row;
      RETURN;
    END IF;
    _swaps := _swaps || _lock.id;
  END LOOP;

  -- The locks and marks in the way, those to be replaced aside.
  FOR _k IN 1.._new LOOP
    _above := _chain[coalesce(_chain_end[_k - 1], 0) + 1 : _chain_end[_k]];
    FOR _lock IN
      SELECT l.*, @.used_1(_space, l.id, _now) AS used
        FROM @.locks l WHERE l.place = ANY(_above) AND (l.infinite OR l.place = _place[_k]) AND (l.exclusive OR _exclusive[_k])
          AND l.space + 0 = _space AND l.ns = _ns[_k] AND l.path = substr(_path[_k], 1, length(l.path))
      UNION ALL
      SELECT l.*, @.used_1(_space, l.id, _now) AS used
        FROM @.locks l WHERE _infinite[_k] AND l.realm = _realm[_k] AND (l.exclusive OR _exclusive[_k])
          AND substr(l.path, 1, 1024) >= _low[_k] AND substr(l.path, 1, 1024) < _high[_k]
          AND l.path >= _from[_k] AND l.path < _to[_k] AND l.space + 0 = _space AND l.ns = _ns[_k]
    LOOP
      CONTINUE WHEN _lock.id = ANY(_swaps) OR _lock.id = ANY(_live);
      IF (_lock.life_end IS NULL OR _lock.life_end > _now) AND (_lock.expires IS NULL OR _lock.expires > _now OR _lock.used) THEN
        _live := _live || _lock.id;
        IF cardinality(_live) <= _blockers THEN
          _row := NULL;
          _row.what := 1;
          _row.id := _lock.id;
          _row.num := _lock.generation;
          _row.state := _lock.state;
          _row.created := _lock.created;
          _row.expires := _lock.expires;
          _row.life_end := _lock.life_end;
          _row.in_use := _lock.used;
          _row.parts := _lock.parts;
          RETURN NEXT _row;
        END IF;
        EXIT WHEN cardinality(_live) > _blockers;
      ELSIF cardinality(_over) < 2000 THEN
        _over := _over || _lock.id;
      ELSE
        _code := 12;
        EXIT;
      END IF;
    END LOOP;
  END LOOP;
  PERFORM @.expire_1(_space, _over, _now);
  _row := NULL;
  _row.what := 0;
  _row.at := _now;
  IF cardinality(_live) > 0 OR (_itself & 1) <> 0 THEN
    _row.code := 2;
    _row.num := cardinality(_live);
    RETURN NEXT _row;
    RETURN;
  END IF;
  IF _code = 12 THEN
    _row.code := 12;
    RETURN NEXT _row;
    RETURN;
  END IF;

  -- How many there are. The principal's number is under an advisory lock of its own, taken with the others.
  IF _of_principal IS NOT NULL THEN
    SELECT count(*) INTO _found FROM (SELECT 1 FROM @.locks l
      WHERE l.whose = _whose[1] AND l.space + 0 = _space AND l.who IS NOT DISTINCT FROM _holder[1] AND NOT l.id = ANY(_swaps)
        AND (l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now))
      LIMIT greatest(_of_principal, 0) + 1) c;
    IF _found + _new > _of_principal THEN
      _row.code := 4;
      RETURN NEXT _row;
      RETURN;
    END IF;
  END IF;
  FOR _k IN 1.._new LOOP
    _numbers := _numbers || nextval('@.generation');
  END LOOP;
  IF _of_store IS NOT NULL THEN
    -- One that is named twice makes room for one.
    IF @.full_1(_space, _now, _of_store, _new, ARRAY(SELECT DISTINCT unnest(_swaps)), _counting) THEN
      _row.code := 5;
      RETURN NEXT _row;
      RETURN;
    END IF;
  END IF;

  -- The writes in the way.
  FOR _k IN 1.._new LOOP
    _above := _chain[coalesce(_chain_end[_k - 1], 0) + 1 : _chain_end[_k]];
    FOR _lock IN SELECT f.* FROM @.in_flight_1(_space, _now, _place[_k], _realm[_k], _ns[_k], _path[_k], _exclusive[_k] OR _freeze[_k],
      _infinite[_k], _above, _low[_k], _high[_k], _from[_k], _to[_k], _within, _excused, _excuses) f
    LOOP
      _certain := _certain OR _lock.code = 1;
      _perhaps := _perhaps || _lock.id;
    END LOOP;
    EXIT WHEN _certain;
  END LOOP;
  IF cardinality(_perhaps) > 0 THEN
    FOR _k IN 1.._new LOOP
      _above := _chain[coalesce(_chain_end[_k - 1], 0) + 1 : _chain_end[_k]];
      _cool := greatest(_cool, (SELECT max(c.until) FROM (
        SELECT a.until, a.space FROM @.cooling a WHERE a.place = ANY(_above) AND (a.infinite OR a.place = _place[_k]) AND a.ns = _ns[_k]
        UNION ALL
        SELECT b.until, b.space FROM @.cooling b WHERE _infinite[_k] AND b.realm = _realm[_k] AND b.ns = _ns[_k]
          AND substr(b.path, 1, 1024) >= _low[_k] AND substr(b.path, 1, 1024) < _high[_k] AND b.path >= _from[_k] AND b.path < _to[_k]
        ) c WHERE c.space = _space AND c.until > _now));
    END LOOP;
    IF _cool IS NOT NULL OR _drain <= 0 THEN
      _row.code := CASE WHEN _certain THEN 3 ELSE 10 END;
      _row.num := greatest(_cool - _now, 1000000);
      RETURN NEXT _row;
      IF NOT _certain THEN
        RETURN QUERY SELECT * FROM @.perhaps_1(_space, _now, _perhaps);
      END IF;
      RETURN;
    END IF;
  END IF;

  -- In one step what is replaced ends and what is asked for is there; or marks are, and both wait.
  IF cardinality(_perhaps) = 0 AND cardinality(_swaps) > 0 THEN
    PERFORM @.swap_1(_space, _now, _swaps, _swap_token, _who, _swap_reason);
  END IF;
  FOR _k IN 1.._new LOOP
    INSERT INTO @.locks AS l (space, place, realm, whose, created, expires, life_end, span, most, drain, due, generation, id, token,
        state, exclusive, infinite, frozen, ns, path, kind, who, parts, asked)
      VALUES (_space, _place[_k], _realm[_k], _whose[_k], _now,
        CASE WHEN cardinality(_perhaps) > 0 THEN _now + _drain ELSE least(_now + _span, _now + _total) END,
        CASE WHEN cardinality(_perhaps) = 0 THEN _now + _total END, _span, _most, _drain,
        CASE WHEN cardinality(_perhaps) > 0 THEN _now + _drain ELSE least(_now + _span, _now + _total) END,
        CASE WHEN cardinality(_perhaps) > 0 THEN 0 ELSE _numbers[_k] END, _id[_k], _token[_k],
        CASE WHEN cardinality(_perhaps) > 0 THEN 0 ELSE 1 END,
        _exclusive[_k], _infinite[_k], _freeze[_k], _ns[_k], _path[_k], _kind[_k], _holder[_k], _parts[_k],
        CASE WHEN cardinality(_perhaps) > 0 THEN _asked END)
      RETURNING l.* INTO _all;
    _row := NULL;
    _row.what := 1;
    _row.id := _id[_k];
    _row.num := _all.generation;
    _row.state := _all.state;
    _row.created := _all.created;
    _row.expires := _all.expires;
    _row.life_end := _all.life_end;
    _row.in_use := false;
    RETURN NEXT _row;
    IF _all.state = 1 THEN
      PERFORM @.tell_1(1, _now, false, _all, NULL, NULL, NULL);
    END IF;
  END LOOP;
  _row := NULL;
  _row.what := 0;
  _row.at := _now;
  IF cardinality(_perhaps) = 0 THEN
    _row.code := 0;
    RETURN NEXT _row;
  ELSE
    _row.code := 9;
    RETURN NEXT _row;
    _row.what := 2;
    FOR _k IN 1..cardinality(_swaps) LOOP
      _row.id := _swaps[_k];
      RETURN NEXT _row;
    END LOOP;
    IF NOT _certain THEN
      RETURN QUERY SELECT * FROM @.perhaps_1(_space, _now, _perhaps);
    END IF;
  END IF;
END $tower_lock$;

-- Ends the locks that others take the place of, as far as they have not ended by themselves.
CREATE FUNCTION @.swap_1(_space bigint, _now bigint, _swaps uuid[], _swap_token uuid[], _who bytea, _swap_reason bytea[])
RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _lock @.locks;
  _k integer;
BEGIN
  FOR _lock IN SELECT l.* FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_swaps) AND l.state <> 0 ORDER BY l.id FOR UPDATE LOOP
    _k := array_position(_swaps, _lock.id);
    IF _swap_reason[_k] IS NOT NULL THEN
      PERFORM @.bury_1(_lock, 2, _now, _who, _swap_reason[_k]);
    ELSE
      PERFORM @.bury_1(_lock, 3, _now, NULL, NULL);
    END IF;
  END LOOP;
END $tower_lock$;

-- Whether a store would have more locks than it may. Each new one has taken a number already, so there are at most as many
-- as at the last count and as numbers were taken since. Only where that is too many are they counted: nobody adds any
-- meanwhile.
CREATE FUNCTION @.full_1(_space bigint, _now bigint, _of_store bigint, _new integer, _swaps uuid[], _counting boolean)
RETURNS boolean LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _count @.counts;
  _value bigint;
  _others bigint;
BEGIN
  IF _counting THEN
    PERFORM pg_advisory_xact_lock(1414287181, (_space & 2147483647)::integer);
  ELSE
    PERFORM pg_advisory_xact_lock_shared(1414287181, (_space & 2147483647)::integer);
  END IF;
  SELECT c.* INTO _count FROM @.counts c WHERE c.space = _space;
  SELECT g.last_value INTO _value FROM @.generation g;
  IF FOUND AND _count.counted + (_value - _count.at_value) - cardinality(_swaps) <= _of_store THEN
    RETURN false;
  END IF;
  IF NOT _counting THEN
    RAISE EXCEPTION 'tower-lock: the locks have to be counted' USING ERRCODE = 'TL002';
  END IF;
  -- Counting many takes long. While they are too many it is done once a second.
  IF _count.counted > 20000 AND _count.counted + _new - cardinality(_swaps) > _of_store
    AND _count.counted_at > clock_timestamp() - interval '1 second'
  THEN
    RETURN true;
  END IF;
  SELECT count(*) INTO _others FROM @.locks l WHERE l.space = _space
    AND (l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now));
  INSERT INTO @.counts AS c (space, counted, at_value, counted_at) VALUES (_space, _others, _value - _new, clock_timestamp())
    ON CONFLICT (space) DO UPDATE SET counted = excluded.counted, at_value = excluded.at_value, counted_at = excluded.counted_at;
  RETURN _others + _new - cardinality(_swaps) > _of_store;
END $tower_lock$;

-- Makes locks of marks once no write is in the way: here their lives start, and here they get their generations. Outcomes: 0
-- granted, 3 the time is up, 7 a mark was released or what only one may replace is gone, 9 writes are in the way still. It has
-- to do with the marks of its own acquire alone: it may come late, after they were withdrawn and others set for the same
-- request.
CREATE FUNCTION @.grant_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _who bytea, _id uuid[], _place bigint[],
  _realm bigint[], _ns bytea[], _path bytea[], _exclusive boolean[], _infinite boolean[], _freeze boolean[], _chain bigint[],
  _chain_end integer[], _low bytea[], _high bytea[], _from bytea[], _to bytea[], _swaps uuid[], _swap_token uuid[],
  _swap_reason bytea[], _span bigint, _total bigint, _drain bigint, _within uuid, _excused uuid[], _excuses uuid[], _asked uuid)
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _row @.answer;
  _lock @.locks;
  _write record;
  _above bigint[];
  _stands integer := 0;
  _certain boolean := false;
  _perhaps uuid[] := '{}';
BEGIN
  PERFORM @.take_1(_space, '{}', _wait, true);
  IF cardinality(_ended) > 0 THEN
    PERFORM @.end_1(_ended);
  END IF;
  PERFORM 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id || _swaps) ORDER BY l.id FOR UPDATE;
  _now := @.now_1(_clock);
  SELECT count(*) INTO _stands FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id) AND l.asked = _asked AND l.expires > _now;
  _row := NULL;
  _row.what := 0;
  _row.at := _now;
  IF _stands < cardinality(_id) THEN
    RETURN QUERY SELECT 3::smallint, d.cause::integer, d.at, NULL::bigint, d.id, d.token, NULL::smallint, d.n, NULL::bigint,
      NULL::bigint, NULL::boolean, NULL::bytea, d.ns, d.path, d.who, d.actor, d.reason
      FROM @.dead d WHERE d.space + 0 = _space AND d.id = ANY(_id) AND d.buried > _now - 3600000000;
    IF FOUND THEN
      _row.code := 7;
      DELETE FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id) AND l.asked = _asked;
    ELSE
      _row.code := 3;
      _row.num := 2 * _drain;
      FOR _lock IN SELECT l.* FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id) AND l.asked = _asked LOOP
        PERFORM @.bury_1(_lock, 0, _now, NULL, NULL);
      END LOOP;
    END IF;
    RETURN NEXT _row;
    RETURN;
  END IF;
  FOR _k IN 1..cardinality(_id) LOOP
    _above := _chain[coalesce(_chain_end[_k - 1], 0) + 1 : _chain_end[_k]];
    FOR _write IN SELECT f.* FROM @.in_flight_1(_space, _now, _place[_k], _realm[_k], _ns[_k], _path[_k], _exclusive[_k] OR _freeze[_k],
      _infinite[_k], _above, _low[_k], _high[_k], _from[_k], _to[_k], _within, _excused, _excuses) f
    LOOP
      _certain := _certain OR _write.code = 1;
      _perhaps := _perhaps || _write.id;
    END LOOP;
    EXIT WHEN _certain;
  END LOOP;
  IF cardinality(_perhaps) > 0 THEN
    _row.code := 9;
    RETURN NEXT _row;
    IF NOT _certain THEN
      RETURN QUERY SELECT * FROM @.perhaps_1(_space, _now, _perhaps);
    END IF;
    RETURN;
  END IF;
  -- What only one may replace has to be there still.
  FOR _k IN 1..cardinality(_swaps) LOOP
    IF _swap_token[_k] IS NULL AND _swap_reason[_k] IS NULL AND NOT EXISTS (SELECT 1 FROM @.locks l
      WHERE l.space + 0 = _space AND l.id = _swaps[_k] AND l.state = 1 AND (l.life_end IS NULL OR l.life_end > _now)
        AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now)))
    THEN
      DELETE FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id) AND l.asked = _asked;
      _row.code := 7;
      RETURN NEXT _row;
      RETURN;
    END IF;
  END LOOP;
  PERFORM @.swap_1(_space, _now, _swaps, _swap_token, _who, _swap_reason);
  FOR _k IN 1..cardinality(_id) LOOP
    UPDATE @.locks l SET state = 1, asked = NULL, created = _now, expires = least(_now + _span, _now + _total), life_end = _now + _total,
        due = least(_now + _span, _now + _total), generation = nextval('@.generation')
      WHERE l.space + 0 = _space AND l.id = _id[_k] RETURNING l.* INTO _lock;
    PERFORM @.tell_1(1, _now, false, _lock, NULL, NULL, NULL);
    _row.what := 1;
    _row.id := _lock.id;
    _row.num := _lock.generation;
    _row.state := _lock.state;
    _row.created := _lock.created;
    _row.expires := _lock.expires;
    _row.life_end := _lock.life_end;
    _row.in_use := false;
    RETURN NEXT _row;
  END LOOP;
  _row := NULL;
  _row.what := 0;
  _row.at := _now;
  _row.code := 0;
  RETURN NEXT _row;
END $tower_lock$;

-- Takes the marks of an acquire away without a trace: their tokens may be proposed again.
CREATE FUNCTION @.withdraw_1(_space bigint, _wait integer, _id uuid[], _asked uuid) RETURNS void LANGUAGE plpgsql AS $tower_lock$
BEGIN
  PERFORM set_config('lock_timeout', _wait::text, true);
  PERFORM 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id) AND l.asked = _asked ORDER BY l.id FOR UPDATE;
  DELETE FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_id) AND l.asked = _asked;
END $tower_lock$;
