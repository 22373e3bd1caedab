-- Rows that are read by their keys whatever the statistics of these tables say. Lists and searches look into
-- `placed_orders`, which is analysed as it was.
alter table orders set (autovacuum_analyze_threshold = 1000000);
alter table order_events set (autovacuum_analyze_threshold = 1000000);
alter table order_payments set (autovacuum_analyze_threshold = 1000000);
