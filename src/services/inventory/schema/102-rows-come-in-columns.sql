drop function if exists write_inline_tables(json, json);

-- The columns of stock and reservations, in the order of `inline-tables.ts`; null: no rows.
create or replace function write_inline_tables(columns text[]) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if columns[1] is not null then
    insert into stock (sku, version, on_hand, reserved)
    select * from unnest(columns[1]::text[], columns[2]::integer[], columns[3]::bigint[], columns[4]::bigint[])
    on conflict (sku) do update
      set version = excluded.version, on_hand = excluded.on_hand, reserved = excluded.reserved;
  end if;

  if columns[5] is not null then
    insert into reservations (order_id, version, status)
    select * from unnest(columns[5]::text[], columns[6]::integer[], columns[7]::text[])
    on conflict (order_id) do update set version = excluded.version, status = excluded.status;
  end if;
end
$$;
