drop function if exists write_inline_tables(json, json);

-- The columns of customers, products, orders and order_lines, in the order of `inline-tables.ts`; null: no rows.
create or replace function write_inline_tables(columns text[]) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if columns[1] is not null then
    insert into customers (customer_id, version, name, email, country)
    select * from unnest(
      columns[1]::text[], columns[2]::integer[], columns[3]::text[], columns[4]::text[], columns[5]::text[])
    on conflict (customer_id) do update
      set version = excluded.version, name = excluded.name, email = excluded.email, country = excluded.country;
  end if;

  if columns[6] is not null then
    insert into products (sku, version, name, price, currency)
    select * from unnest(
      columns[6]::text[], columns[7]::integer[], columns[8]::text[], columns[9]::bigint[], columns[10]::text[])
    on conflict (sku) do update
      set version = excluded.version, name = excluded.name, price = excluded.price, currency = excluded.currency;
  end if;

  if columns[11] is not null then
    insert into orders (order_id, version, customer_id, status, total, currency, placed_at)
    select * from unnest(
      columns[11]::text[], columns[12]::integer[], columns[13]::text[], columns[14]::text[], columns[15]::bigint[],
      columns[16]::text[], columns[17]::timestamptz[])
    on conflict (order_id) do update set version = excluded.version, status = excluded.status;
  end if;

  if columns[18] is not null then
    insert into order_lines (order_id, line_no, sku, quantity, unit_price)
    select * from unnest(
      columns[18]::text[], columns[19]::integer[], columns[20]::text[], columns[21]::integer[], columns[22]::bigint[]);
  end if;
end
$$;
