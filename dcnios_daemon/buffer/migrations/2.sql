-- For what an order was claimed: what is in flight now keeps '' and NULL, and is looked for where its route
-- goes by the configuration, as before.
ALTER TABLE deliveries ADD COLUMN sink TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN keep REAL;
