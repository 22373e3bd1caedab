-- As with the tables of the log, which these are written with.
alter table orders set (autovacuum_analyze_threshold = 1000000);
alter table order_lines set (autovacuum_analyze_threshold = 1000000);
