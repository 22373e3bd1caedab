-- The read model `history`: every event of an order, of its reservation and of its payment.
create table order_events (
  order_id text collate "C" not null,
  id text collate "C" not null,
  service text not null,
  position bigint not null,
  stream text not null,
  version integer not null,
  type text not null,
  at timestamptz not null,
  actor text not null,
  causation text not null,
  data text not null,
  primary key (order_id, id)
);
