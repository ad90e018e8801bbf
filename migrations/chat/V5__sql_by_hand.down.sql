DROP TRIGGER message_citations_complete ON message_citations;
DROP FUNCTION message_citations_complete();
DROP TRIGGER messages_number ON messages;
DROP FUNCTION messages_number();
DROP FUNCTION message_row_exists(uuid);
