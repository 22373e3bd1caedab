-- The read model `products`. A row without `catalogue` has stock, but its product is not known yet.
create table products (
  sku text collate "C" primary key,
  version integer not null default 0,
  catalogue text,
  name_key text collate "C",
  words tsvector,
  on_hand bigint not null default 0,
  reserved bigint not null default 0,
  -- How many inventory events have moved the stock.
  stock_version bigint not null default 0
) with (fillfactor = 70);

-- No index on stock: it changes with every order, and such updates stay within their page.
create index products_name on products (name_key, sku) where catalogue is not null;
create index products_words on products using gin (words) with (fastupdate = off);
