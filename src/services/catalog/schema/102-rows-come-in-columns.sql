drop function if exists write_inline_tables(json, json);

-- The columns of products, in the order of `inline-tables.ts`; null: no rows.
create or replace function write_inline_tables(columns text[]) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if columns[1] is not null then
    insert into products (sku, version, name, description, price, currency)
    select * from unnest(
      columns[1]::text[], columns[2]::integer[], columns[3]::text[], columns[4]::text[], columns[5]::bigint[],
      columns[6]::text[])
    on conflict (sku) do update
      set version = excluded.version, name = excluded.name, description = excluded.description,
          price = excluded.price, currency = excluded.currency;
  end if;
end
$$;
