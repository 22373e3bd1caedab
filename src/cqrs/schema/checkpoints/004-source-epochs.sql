-- Which log a consumer reads, and in which epoch of it: a log that is taken back to a backup begins another one, and
-- what a checkpoint says is then not to be trusted. Set when the consumer starts; moves leave it alone.
alter table checkpoints add column source text, add column source_epoch uuid;
