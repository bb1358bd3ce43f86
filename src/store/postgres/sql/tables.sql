-- What the store keeps, in a schema of its own (`@` stands for its quoted name). Times are microseconds since 1970, by
-- the server's clock. Texts that callers choose are bytes: any server encoding keeps them, NUL included, and bytes compare
-- as paths do. Hashes are computed by the client (`place` of a namespace and a path, `realm` of a namespace, `whose` of a
-- principal, all within `space`, the store's own namespace); they say where to look, and what is found is compared.

CREATE TABLE @.meta (magic text NOT NULL, version integer NOT NULL, migrated timestamptz NOT NULL DEFAULT now());

-- The number of the latest grant. Starts at the time, so that a schema made anew goes on above an older one.
CREATE SEQUENCE @.generation AS bigint;
SELECT setval('@.generation', (date_part('epoch', clock_timestamp()) * 1000000)::bigint);

-- Locks and marks. `state`: 0 a mark, 1 held, 2 being broken. `asked`: of a mark, which acquire set it; the same may be asked
-- again, word for word, while something of the first is under way still. `due` is when the sweep looks; a refresh leaves it alone, so
-- that it changes no index.
CREATE TABLE @.locks (
  space bigint NOT NULL,
  place bigint NOT NULL,
  realm bigint NOT NULL,
  whose bigint NOT NULL,
  created bigint NOT NULL,
  expires bigint,
  life_end bigint,
  span bigint,
  most bigint,
  drain bigint,
  due bigint,
  generation bigint NOT NULL,
  id uuid NOT NULL,
  token uuid NOT NULL,
  state smallint NOT NULL,
  exclusive boolean NOT NULL,
  infinite boolean NOT NULL,
  frozen boolean NOT NULL,
  ns bytea NOT NULL,
  path bytea NOT NULL,
  kind bytea NOT NULL,
  who bytea,
  parts bytea NOT NULL,
  actor bytea,
  reason bytea,
  asked uuid,
  PRIMARY KEY (id, space)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX locks_token ON @.locks (token, space);
CREATE INDEX locks_place ON @.locks (place);
-- An index entry is limited to some 2,700 bytes and a path is not; what has the same head is told apart by the path.
CREATE INDEX locks_below ON @.locks (realm, substr(path, 1, 1024));
CREATE INDEX locks_whose ON @.locks (whose);
-- The only one that leads with the space, and only the sweep is to use it: elsewhere the SQL says `space + 0`, or a plan that
-- was made while there were few locks would go through all of them.
CREATE INDEX locks_due ON @.locks (space, due) WHERE due IS NOT NULL;

-- Writes in flight, a row for each target. `pins`: the locks that answered for it with their own tokens; `shared`: the
-- shared ones among them.
CREATE TABLE @.writes (
  space bigint NOT NULL,
  place bigint,
  parent bigint,
  realm bigint NOT NULL,
  expires bigint NOT NULL,
  id uuid NOT NULL,
  target integer NOT NULL,
  unlink boolean NOT NULL,
  ns bytea NOT NULL,
  path bytea NOT NULL,
  pins uuid[] NOT NULL,
  shared uuid[] NOT NULL,
  PRIMARY KEY (id, target)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX writes_place ON @.writes (place);
CREATE INDEX writes_parent ON @.writes (parent) WHERE parent IS NOT NULL;
CREATE INDEX writes_below ON @.writes (realm, substr(path, 1, 1024));

-- Which locks do not end before which writes.
CREATE TABLE @.pins (space bigint NOT NULL, lock uuid NOT NULL, write uuid NOT NULL, PRIMARY KEY (lock, write, space))
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Locks that have ended and tokens that were burnt, oldest first. `cause`: 0 expired, 1 released, 2 broken, 3 replaced,
-- 4 its resource is gone, 5 burnt.
CREATE TABLE @.dead (
  space bigint NOT NULL,
  n bigint GENERATED ALWAYS AS IDENTITY,
  buried bigint NOT NULL,
  at bigint NOT NULL,
  token uuid NOT NULL,
  id uuid,
  cause smallint NOT NULL,
  ns bytea,
  path bytea,
  who bytea,
  actor bytea,
  reason bytea,
  PRIMARY KEY (space, n)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX dead_token ON @.dead (token);
CREATE INDEX dead_id ON @.dead (id) WHERE id IS NOT NULL;

-- Where an acquire has just given up waiting for writes.
CREATE TABLE @.cooling (
  space bigint NOT NULL,
  place bigint NOT NULL,
  realm bigint NOT NULL,
  until bigint NOT NULL,
  infinite boolean NOT NULL,
  ns bytea NOT NULL,
  path bytea NOT NULL
);
CREATE INDEX cooling_place ON @.cooling (place);
CREATE INDEX cooling_below ON @.cooling (realm, substr(path, 1, 1024));

-- How many locks a store had, exactly, when `generation` stood at `at_value`. There are at most as many more as numbers
-- were taken since.
CREATE TABLE @.counts (
  space bigint PRIMARY KEY,
  counted bigint NOT NULL,
  at_value bigint NOT NULL,
  counted_at timestamptz NOT NULL
);

-- Nodes that want to hear of changes, and what they are to hear.
CREATE TABLE @.watchers (space bigint NOT NULL, node uuid NOT NULL, until timestamptz NOT NULL, PRIMARY KEY (space, node));
CREATE TABLE @.events (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  space bigint NOT NULL,
  told timestamptz NOT NULL,
  seen bigint NOT NULL,
  event smallint NOT NULL,
  in_use boolean NOT NULL,
  lock @.locks NOT NULL,
  cause smallint,
  actor bytea,
  reason bytea
);

-- The rows of every answer. `what`: 0 the outcome (`code`, the time `at`, the generation `num`), 1 a lock, 2 the lock of a
-- token, 3 a dead one, 4 a target of a write that is perhaps excused, 5 a lock that perhaps excuses it.
CREATE TYPE @.answer AS (
  what smallint,
  code integer,
  at bigint,
  num bigint,
  id uuid,
  key uuid,
  state smallint,
  created bigint,
  expires bigint,
  life_end bigint,
  in_use boolean,
  parts bytea,
  ns bytea,
  path bytea,
  who bytea,
  actor bytea,
  reason bytea
);
