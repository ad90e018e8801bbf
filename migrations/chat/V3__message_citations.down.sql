DROP TABLE message_citations;
