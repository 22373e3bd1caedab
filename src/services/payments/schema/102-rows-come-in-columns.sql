drop function if exists write_inline_tables(json, json);

-- The columns of payments, in the order of `inline-tables.ts`; null: no rows.
create or replace function write_inline_tables(columns text[]) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if columns[1] is not null then
    insert into payments (order_id, payment_id, version, status, amount, currency, captured, refunded)
    select * from unnest(
      columns[1]::text[], columns[2]::text[], columns[3]::integer[], columns[4]::text[], columns[5]::bigint[],
      columns[6]::text[], columns[7]::bigint[], columns[8]::bigint[])
    on conflict (order_id) do update
      set version = excluded.version, status = excluded.status,
          captured = excluded.captured, refunded = excluded.refunded;
  end if;
end
$$;
