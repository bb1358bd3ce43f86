SELECT g.last_value, (date_part('epoch', clock_timestamp()) * 1000000)::bigint,
  l.id, l.generation, l.state, l.created, l.expires, l.life_end,
  CASE WHEN l.id IS NOT NULL THEN EXISTS (SELECT 1 FROM @.pins p JOIN @.writes w ON w.id = p.write
    WHERE p.lock = l.id AND p.space = l.space AND w.expires > CASE WHEN abs($4) < 1000000000000000
      THEN (date_part('epoch', clock_timestamp()) * 1000000)::bigint + $4 ELSE $4 END) END,
  l.parts
FROM @.generation g LEFT JOIN @.locks l ON l.place = ANY($1) AND l.space = $2 AND (l.infinite OR l.place = ANY($3))
