drop function if exists write_inline_tables(json, json);

-- The columns of divergences, in the order of `streams.ts`; null: no rows.
create or replace function write_inline_tables(columns text[]) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if columns[1] is not null then
    insert into divergences (id, check_name, entity, order_id, status, first_seen, last_seen, version, state)
    select * from unnest(
      columns[1]::text[], columns[2]::text[], columns[3]::text[], columns[4]::text[], columns[5]::text[],
      columns[6]::timestamptz[], columns[7]::timestamptz[], columns[8]::integer[], columns[9]::json[])
    on conflict (id) do update
      set status = excluded.status, last_seen = greatest(divergences.last_seen, excluded.last_seen),
          version = excluded.version, state = excluded.state;
  end if;
end
$$;
