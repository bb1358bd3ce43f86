-- What the functions of the store are made of.
--
-- Every function is one transaction. It takes what it waits for in one order, so that no two wait for each other:
-- advisory locks by their numbers, then rows of `writes` by their ids, then the rows of the locks it was asked about, by
-- their ids. Rows it only finds in its way (ended locks) it takes if they are free, and else gives up with the error
-- TL001, which the client answers by asking again. The advisory locks come first, in statements of their own: what is read
-- after them is read with a snapshot taken after them.

CREATE FUNCTION @.now_1(_clock bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $tower_lock$
BEGIN
  -- `_clock` is 0 but in tests, which move the clock by less than thirty years, or stop it at a time.
  IF abs(_clock) < 1000000000000000 THEN
    RETURN (date_part('epoch', clock_timestamp()) * 1000000)::bigint + _clock;
  END IF;
  RETURN _clock;
END $tower_lock$;

-- Whether a write in flight keeps a lock from ending.
CREATE FUNCTION @.used_1(_space bigint, _id uuid, _now bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $tower_lock$
BEGIN
  RETURN EXISTS (SELECT 1 FROM @.pins p JOIN @.writes w ON w.id = p.write
    WHERE p.lock = _id AND p.space = _space AND w.expires > _now);
END $tower_lock$;

-- Takes the advisory locks of a step: of each number the lowest bit says whether exclusively. A step that changes locks
-- also shares that of the watchers: whoever begins to watch waits for the steps under way, which may not know of it.
CREATE FUNCTION @.take_1(_space bigint, _keys bigint[], _wait integer, _tells boolean) RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _key bigint;
BEGIN
  PERFORM set_config('lock_timeout', _wait::text, true);
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  IF _tells THEN
    PERFORM pg_advisory_xact_lock_shared(1414287180, (_space & 2147483647)::integer);
  END IF;
  FOREACH _key IN ARRAY _keys LOOP
    IF _key & 1 = 1 THEN
      PERFORM pg_advisory_xact_lock(1414287179, (_key >> 1)::integer);
    ELSE
      PERFORM pg_advisory_xact_lock_shared(1414287179, (_key >> 1)::integer);
    END IF;
  END LOOP;
END $tower_lock$;

CREATE FUNCTION @.again_1() RETURNS void LANGUAGE plpgsql AS $tower_lock$
BEGIN
  RAISE EXCEPTION 'tower-lock: a row is busy, ask again' USING ERRCODE = 'TL001';
END $tower_lock$;

-- Writes that have ended. Waits where another call is ending the same ones: they are over for whoever comes after.
CREATE FUNCTION @.end_1(_ended uuid[]) RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _pinned uuid[];
BEGIN
  SELECT array_agg(w.pinned) INTO _pinned FROM (
    SELECT unnest(CASE WHEN o.pins = '{}' THEN '{00000000-0000-0000-0000-000000000000}' ELSE o.pins END) AS pinned FROM (
      SELECT x.pins FROM @.writes x WHERE x.id = ANY(_ended) ORDER BY x.id, x.target FOR UPDATE) o) w;
  IF _pinned IS NOT NULL THEN
    DELETE FROM @.pins p WHERE p.lock = ANY(_pinned) AND p.write = ANY(_ended);
    DELETE FROM @.writes w WHERE w.id = ANY(_ended);
  END IF;
END $tower_lock$;

-- Tells watchers, if there are any. `_event`: 1 granted, 2 refreshed, 3 being broken, 4 ended.
CREATE FUNCTION @.tell_1(_event integer, _now bigint, _used boolean, _lock @.locks, _cause integer, _actor bytea, _reason bytea)
RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _n bigint;
BEGIN
  IF EXISTS (SELECT 1 FROM @.watchers w WHERE w.space = _lock.space AND w.until > clock_timestamp()) THEN
    INSERT INTO @.events (space, told, seen, event, in_use, lock, cause, actor, reason)
      VALUES (_lock.space, clock_timestamp(), _now, _event, _used, _lock, _cause, _actor, _reason) RETURNING n INTO _n;
    PERFORM pg_notify('tower_lock_' || _lock.space, _n::text);
  END IF;
END $tower_lock$;

-- Ends a lock whose row this step has taken, remembers it and says so. A mark that ends by itself only cools down.
CREATE FUNCTION @.bury_1(_lock @.locks, _cause integer, _now bigint, _actor bytea, _reason bytea) RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _at bigint := _now;
  _used boolean;
BEGIN
  DELETE FROM @.locks l WHERE l.id = _lock.id AND l.space + 0 = _lock.space;
  IF _cause = 0 AND _lock.state = 0 THEN
    IF _now < _lock.expires + 2 * _lock.drain THEN
      INSERT INTO @.cooling (space, place, realm, until, infinite, ns, path)
        VALUES (_lock.space, _lock.place, _lock.realm, _now + 2 * _lock.drain, _lock.infinite, _lock.ns, _lock.path);
    END IF;
    RETURN;
  END IF;
  IF _cause = 0 AND _lock.state = 2 THEN
    _cause := 2;
    _at := coalesce(_lock.life_end, _now);
    _actor := _lock.actor;
    _reason := _lock.reason;
  ELSIF _cause = 0 THEN
    _at := coalesce(least(_lock.expires, _lock.life_end), _now);
  END IF;
  INSERT INTO @.dead (space, buried, at, token, id, cause, ns, path, who, actor, reason)
    VALUES (_lock.space, _now, _at, _lock.token, _lock.id, _cause, _lock.ns, _lock.path, _lock.who, _actor, _reason);
  IF _lock.state <> 0 THEN
    PERFORM @.tell_1(4, _now, false, _lock, _cause, _actor, _reason);
  END IF;
END $tower_lock$;

-- Ends locks whose time was seen to be up. One that cannot be had at once is perhaps being pinned: then ask again.
CREATE FUNCTION @.expire_1(_space bigint, _ids uuid[], _now bigint) RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _id uuid;
  _lock @.locks;
BEGIN
  FOREACH _id IN ARRAY _ids LOOP
    SELECT l.* INTO _lock FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
      -- Looked at anew: it may have been refreshed or pinned since.
      IF NOT (_lock.expires <= _now OR _lock.life_end <= _now) OR ((_lock.life_end IS NULL OR _lock.life_end > _now)
        AND @.used_1(_space, _id, _now)) THEN
        PERFORM @.again_1();
      END IF;
      PERFORM @.bury_1(_lock, 0, _now, NULL, NULL);
    ELSIF EXISTS (SELECT 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = _id) THEN
      PERFORM @.again_1();
    END IF;
  END LOOP;
END $tower_lock$;

-- Ends some locks whose time is up, the oldest first, and forgets some of what is too old.
CREATE FUNCTION @.sweep_1(_space bigint, _now bigint, _most integer) RETURNS void LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _lock @.locks;
  _oldest bigint;
  _buried bigint;
  _last bigint;
BEGIN
  FOR _lock IN SELECT l.* FROM @.locks l WHERE l.space = _space AND l.due <= _now ORDER BY l.due LIMIT _most FOR UPDATE SKIP LOCKED LOOP
    IF (_lock.life_end IS NULL OR _lock.life_end > _now) AND (_lock.expires IS NULL OR _lock.expires > _now OR @.used_1(_space, _lock.id, _now))
    THEN
      UPDATE @.locks l SET due = greatest(_lock.expires, _now + 10000000) WHERE l.space + 0 = _space AND l.id = _lock.id;
    ELSE
      PERFORM @.bury_1(_lock, 0, _now, NULL, NULL);
    END IF;
  END LOOP;
  SELECT o.n, o.buried INTO _oldest, _buried FROM @.dead o WHERE o.space = _space ORDER BY o.n LIMIT 1;
  SELECT max(o.n) - 100000 INTO _last FROM @.dead o WHERE o.space = _space;
  IF _buried <= _now - 3600000000 OR _oldest <= _last THEN
    DELETE FROM @.dead d WHERE d.space = _space AND d.n = ANY(ARRAY(
      SELECT f.n FROM (SELECT o.n, o.buried FROM @.dead o WHERE o.space = _space ORDER BY o.n LIMIT _most FOR UPDATE SKIP LOCKED) f
        WHERE f.buried <= _now - 3600000000 OR f.n <= _last));
  END IF;
  DELETE FROM @.cooling c WHERE c.ctid = ANY(ARRAY(
    SELECT o.ctid FROM @.cooling o WHERE o.space = _space AND o.until <= _now LIMIT _most FOR UPDATE SKIP LOCKED));
END $tower_lock$;

-- The writes in flight that a coming lock would refuse, as far as SQL can say: code 1 certainly, code 2 unless a shared
-- lock excuses it (which the client decides, and then names in `_excused` and `_excuses`; it holds while that lock lives).
CREATE FUNCTION @.in_flight_1(_space bigint, _now bigint, _place bigint, _realm bigint, _ns bytea, _path bytea, _strict boolean,
  _infinite boolean, _chain bigint[], _low bytea, _high bytea, _from bytea, _to bytea, _within uuid, _excused uuid[], _excuses uuid[])
RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
DECLARE
  _row @.answer;
  _write record;
BEGIN
  FOR _write IN
    SELECT DISTINCT w.id, w.shared FROM (
      SELECT a.id, a.shared FROM @.writes a WHERE a.place = ANY(_chain) AND (a.place = _place OR a.unlink)
        AND a.space = _space AND a.ns = _ns AND a.expires > _now
      UNION ALL
      SELECT b.id, b.shared FROM @.writes b WHERE b.parent = _place AND b.space = _space AND b.ns = _ns AND b.expires > _now
      UNION ALL
      SELECT c.id, c.shared FROM @.writes c WHERE _infinite AND c.realm = _realm
        AND substr(c.path, 1, 1024) >= _low AND substr(c.path, 1, 1024) < _high
        AND c.path >= _from AND c.path < _to AND c.space = _space AND c.ns = _ns AND c.expires > _now
    ) w WHERE _within IS NULL OR w.id <> _within
  LOOP
    _row := NULL;
    _row.what := 6;
    _row.code := 1;
    _row.id := _write.id;
    IF NOT _strict AND EXISTS (SELECT 1 FROM @.locks l WHERE l.space + 0 = _space AND l.id = ANY(_write.shared) AND l.state <> 0
      AND (l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now))) THEN
      CONTINUE WHEN EXISTS (SELECT 1 FROM unnest(_excused, _excuses) e(write, lock)
        JOIN @.locks l ON l.space + 0 = _space AND l.id = e.lock AND l.state <> 0
      AND (l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now))
        WHERE e.write = _write.id);
      _row.code := 2;
    END IF;
    RETURN NEXT _row;
    EXIT WHEN _row.code = 1;
  END LOOP;
END $tower_lock$;

-- What the client needs to say which of these writes a shared lock excuses.
CREATE FUNCTION @.perhaps_1(_space bigint, _now bigint, _perhaps uuid[]) RETURNS SETOF @.answer LANGUAGE plpgsql AS $tower_lock$
BEGIN
  RETURN QUERY SELECT 4::smallint, (CASE WHEN w.unlink THEN 1 ELSE 0 END) + (CASE WHEN w.parent IS NOT NULL THEN 2 ELSE 0 END),
    NULL::bigint, NULL::bigint, w.id, NULL::uuid, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::boolean,
    NULL::bytea, w.ns, w.path, NULL::bytea, NULL::bytea, NULL::bytea
    FROM @.writes w WHERE w.id = ANY(_perhaps);
  RETURN QUERY SELECT DISTINCT 5::smallint, 0, NULL::bigint, l.generation, w.id, l.id, l.state, l.created, l.expires, l.life_end, true,
    l.parts, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea
    FROM @.writes w JOIN @.locks l ON l.space + 0 = _space AND l.id = ANY(w.shared) AND l.state <> 0
      AND (l.life_end IS NULL OR l.life_end > _now) AND (l.expires IS NULL OR l.expires > _now OR @.used_1(_space, l.id, _now))
    WHERE w.id = ANY(_perhaps);
END $tower_lock$;
