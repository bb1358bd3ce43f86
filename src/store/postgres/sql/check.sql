SELECT NULL::uuid, NULL::bigint, NULL::smallint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::boolean, NULL::bytea,
  pg_sequence_last_value('@.generation'::regclass), (date_part('epoch', clock_timestamp()) * 1000000)::bigint
UNION ALL
SELECT l.id, l.generation, l.state, l.created, l.expires, l.life_end, @.used_1(l.space, l.id, @.now_1($4)), l.parts, NULL, NULL
  FROM @.locks l WHERE l.place = ANY($1) AND l.space + 0 = $2 AND (l.infinite OR l.place = ANY($3))
