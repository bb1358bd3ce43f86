-- Whether a write may go on, and its registration, in one step.
--
-- Answers the locks that it touches and what became of its tokens, and registers it unless one of those locks certainly
-- refuses it: one that its own token does not answer for, and that no shared lock can vouch for. `_proof`: 0 token and
-- principal, 1 token, 2 principal, 3 a function of the client's, which has judged the locks `_judged` and found that the
-- write may go on, with `_own` answering by their own proof.

CREATE FUNCTION @.admit_1(_space bigint, _clock bigint, _wait integer, _ended uuid[], _keys bigint[], _write uuid, _lease bigint,
  _places bigint[], _exact bigint[], _below_realm bigint[], _low bytea[], _high bytea[], _from bytea[], _to bytea[],
  _at bigint[], _parent bigint[], _realm bigint[], _ns bytea[], _path bytea[], _unlink boolean[],
  _tokens uuid[], _who bytea, _proof integer, _judged uuid[], _own uuid[], _most integer)
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _generation bigint;
  _row @.answer;
  _lock record;
  _mine boolean;
  _hopeless integer := 0;
  _ended_locks uuid[] := '{}';
  _pins uuid[] := '{}';
  _shared uuid[] := '{}';
  _blind boolean := _proof < 2 AND cardinality(_tokens) = 0;
BEGIN
  PERFORM @.take_1(_space, _keys, _wait, false);
  IF cardinality(_ended) > 0 THEN
    PERFORM @.end_1(_ended);
  END IF;
  _now := @.now_1(_clock);
  -- Before the look: a write let through before a grant must not carry the grant's number.
  SELECT g.last_value INTO _generation FROM @.generation g;
  FOR _lock IN
    SELECT l.*, @.used_1(_space, l.id, _now) AS used
      FROM @.locks l WHERE l.place = ANY(_places) AND l.space + 0 = _space AND (l.infinite OR l.place = ANY(_exact))
    UNION ALL
    SELECT l.*, @.used_1(_space, l.id, _now) AS used
      FROM unnest(_below_realm, _low, _high, _from, _to) AS b(realm, low, high, lo, hi), LATERAL (
        SELECT i.* FROM @.locks i WHERE i.realm = b.realm AND substr(i.path, 1, 1024) >= b.low AND substr(i.path, 1, 1024) < b.high
          AND i.path >= b.lo AND i.path < b.hi AND i.space + 0 = _space OFFSET 0) l
  LOOP
    IF NOT ((_lock.life_end IS NULL OR _lock.life_end > _now) AND (_lock.expires IS NULL OR _lock.expires > _now OR _lock.used)) THEN
      IF cardinality(_ended_locks) < 1000 THEN
        _ended_locks := _ended_locks || _lock.id;
      END IF;
      CONTINUE;
    END IF;
    _mine := _lock.state <> 0 AND NOT _lock.frozen AND CASE _proof
      WHEN 0 THEN _lock.token = ANY(_tokens) AND _lock.who IS NOT DISTINCT FROM _who
      WHEN 1 THEN _lock.token = ANY(_tokens)
      WHEN 2 THEN _lock.who IS NOT DISTINCT FROM _who
      ELSE _lock.id = ANY(_own) END;
    IF _mine THEN
      IF NOT _lock.id = ANY(_pins) THEN
        _pins := _pins || _lock.id;
        IF NOT _lock.exclusive THEN
          _shared := _shared || _lock.id;
        END IF;
      END IF;
    ELSIF NOT _lock.id = ANY(_judged) AND (_proof = 3 OR _lock.exclusive OR _lock.frozen OR _blind) THEN
      _hopeless := _hopeless + 1;
    END IF;
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
    -- It is refused, and more are not named. The locks of its tokens are answered below in any case.
    EXIT WHEN _hopeless > _most AND _proof < 2;
  END LOOP;
  IF cardinality(_ended_locks) > 0 THEN
    PERFORM @.expire_1(_space, _ended_locks, _now);
  END IF;
  IF cardinality(_tokens) > 0 THEN
    RETURN QUERY SELECT * FROM @.tokens_1(_space, _now, _tokens);
  END IF;
  IF _hopeless = 0 THEN
    IF cardinality(_pins) > 0 THEN
      PERFORM 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_pins) FOR KEY SHARE SKIP LOCKED;
      GET DIAGNOSTICS _most = ROW_COUNT;
      IF _most < cardinality(_pins) THEN
        PERFORM @.again_1();
      END IF;
      INSERT INTO @.pins (space, lock, write) SELECT _space, p, _write FROM unnest(_pins) p;
    END IF;
    INSERT INTO @.writes (space, place, parent, realm, expires, id, target, unlink, ns, path, pins, shared)
      SELECT _space, t.place, t.parent, t.realm, _now + _lease, _write, t.target, t.unlink, t.ns, t.path, _pins, _shared
      FROM unnest(_at, _parent, _realm, _unlink, _ns, _path) WITH ORDINALITY AS t(place, parent, realm, unlink, ns, path, target);
  END IF;
  _row := NULL;
  _row.what := 0;
  _row.code := CASE WHEN _hopeless = 0 THEN 1 ELSE 0 END;
  _row.at := _now;
  _row.num := _generation;
  RETURN NEXT _row;
END $tower_lock$;

-- What became of tokens: locks, ended or not, and dead ones.
CREATE FUNCTION @.tokens_1(_space bigint, _now bigint, _tokens uuid[]) RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
BEGIN
  RETURN QUERY SELECT 2::smallint, 0, NULL::bigint, l.generation, l.id, l.token, l.state, l.created, l.expires, l.life_end,
    @.used_1(_space, l.id, _now),
    l.parts, NULL::bytea, NULL::bytea, l.who, l.actor, l.reason
    FROM @.locks l WHERE l.space + 0 = _space AND l.token = ANY(_tokens);
  RETURN QUERY SELECT 3::smallint, d.cause::integer, d.at, NULL::bigint, d.id, d.token, NULL::smallint, d.n, NULL::bigint, NULL::bigint,
    NULL::boolean, NULL::bytea, d.ns, d.path, d.who, d.actor, d.reason
    FROM @.dead d WHERE d.space + 0 = _space AND d.token = ANY(_tokens) AND d.buried > _now - 3600000000;
END $tower_lock$;

-- Ends writes, off everybody's way: nobody waits for the disk.
CREATE FUNCTION @.ended_1(_wait integer, _ended uuid[]) RETURNS void LANGUAGE plpgsql AS $tower_lock$
BEGIN
  PERFORM set_config('lock_timeout', _wait::text, true);
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM @.end_1(_ended);
END $tower_lock$;

-- Renews the leases of all writes that still stand, in one step; answers those. What has lapsed stays so. Takes away what
-- others let lapse long ago.
CREATE FUNCTION @.renew_1(_space bigint, _clock bigint, _wait integer, _writes uuid[], _lease bigint) RETURNS SETOF uuid LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _now bigint;
  _old uuid[];
BEGIN
  PERFORM @.take_1(_space, '{}', _wait, false);
  PERFORM 1 FROM @.writes WHERE id = ANY(_writes) ORDER BY id, target FOR UPDATE;
  _now := @.now_1(_clock);
  RETURN QUERY WITH renewed AS (
    UPDATE @.writes w SET expires = _now + _lease WHERE w.id = ANY(_writes) AND w.expires > _now RETURNING w.id
  ) SELECT DISTINCT r.id FROM renewed r;
  _old := ARRAY(SELECT w.id FROM @.writes w WHERE w.space = _space AND w.expires <= _now - 2 * _lease LIMIT 1000 FOR UPDATE SKIP LOCKED);
  IF cardinality(_old) > 0 THEN
    DELETE FROM @.pins p USING @.writes w WHERE w.id = ANY(_old) AND p.lock = ANY(w.pins) AND p.write = w.id;
    DELETE FROM @.writes WHERE id = ANY(_old);
  END IF;
END $tower_lock$;
