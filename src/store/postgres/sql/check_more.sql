WITH clock AS MATERIALIZED (
  SELECT CASE WHEN abs($2) < 1000000000000000 THEN (date_part('epoch', clock_timestamp()) * 1000000)::bigint + $2 ELSE $2 END AS now
), found AS (
  SELECT 1::smallint AS what, l.* FROM @.locks l
    WHERE l.place = ANY($3) AND l.space + 0 = $1 AND (l.infinite OR l.place = ANY($4))
  UNION ALL
  SELECT 1::smallint, l.* FROM unnest($5, $6, $7, $8, $9) AS b(realm, low, high, lo, hi), LATERAL (
    SELECT i.* FROM @.locks i WHERE i.realm = b.realm AND substr(i.path, 1, 1024) >= b.low AND substr(i.path, 1, 1024) < b.high
      AND i.path >= b.lo AND i.path < b.hi AND i.space + 0 = $1 LIMIT $11) l
  UNION ALL
  SELECT 2::smallint, l.* FROM @.locks l WHERE l.space + 0 = $1 AND l.token = ANY($10)
)
SELECT f.what, 0 AS code, NULL::bigint AS at, f.generation, f.id, f.token, f.state, f.created, f.expires, f.life_end,
  @.used_1($1, f.id, c.now),
  f.parts, NULL::bytea, NULL::bytea, f.who, f.actor, f.reason
  FROM found f, clock c
UNION ALL
SELECT 3::smallint, d.cause::integer, d.at, NULL::bigint, d.id, d.token, NULL::smallint, d.n, NULL::bigint, NULL::bigint,
  NULL::boolean, NULL::bytea, d.ns, d.path, d.who, d.actor, d.reason
  FROM @.dead d, clock c WHERE d.space + 0 = $1 AND d.token = ANY($10) AND d.buried > c.now - 3600000000
UNION ALL
SELECT 0::smallint, 0, c.now, g.last_value, NULL::uuid, NULL::uuid, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint,
  NULL::boolean, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea
  FROM @.generation g, clock c
