-- chatledger: no-transaction
DROP INDEX CONCURRENTLY IF EXISTS messages_search_idx;
