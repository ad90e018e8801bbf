DROP FUNCTION message_row_id(uuid, uuid);
DROP TABLE messages;
DROP FUNCTION inserting_transaction();
