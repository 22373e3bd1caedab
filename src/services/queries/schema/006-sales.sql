-- The read model `sales`: completed orders by hour of `placedAt` (UTC), country ('' when unknown) and currency.
create table sales_hours (
  hour timestamptz not null,
  country text collate "C" not null,
  currency text collate "C" not null,
  orders bigint not null,
  units bigint not null,
  revenue numeric not null,
  primary key (hour, country, currency)
) with (fillfactor = 80);

-- Every order, for its completion to find; completed ones also answer for parts of hours.
create table sales_orders (
  order_id text collate "C" primary key,
  placed_at timestamptz not null,
  country text collate "C" not null,
  currency text collate "C" not null,
  units bigint not null,
  revenue bigint not null,
  completed boolean not null default false
) with (fillfactor = 80);

create index sales_orders_placed on sales_orders (placed_at) where completed;
