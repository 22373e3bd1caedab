-- The read model `orders`: one row per order, `body` is its OrderView as JSON, ready to send.
create table orders (
  order_id text collate "C" primary key,
  version integer not null,
  customer_id text collate "C" not null,
  status text collate "C" not null,
  total bigint not null,
  currency text collate "C" not null,
  placed_at timestamptz not null,
  updated_at timestamptz not null,
  body text not null
) with (fillfactor = 80);

create index orders_placed on orders (placed_at, order_id);
create index orders_customer on orders (customer_id, placed_at, order_id);
create index orders_status on orders (status, placed_at, order_id);
create index orders_total on orders (total, order_id);

-- What an order is found by never changes: written once, so that a change of status leaves the
-- inverted index alone.
create table order_words (
  order_id text collate "C" primary key,
  words tsvector not null
);

-- Without a list of pending entries, which every search would have to read through: after 30,000 orders
-- it made a search for a rare word take 100 ms instead of 1 ms, and inserts were no faster for it.
create index order_words_words on order_words using gin (words) with (fastupdate = off);
