-- Reads the CSV files as they are into tables of the schema raw. Run in the directory demo/.

CREATE SCHEMA raw;

CREATE TABLE raw.leads (
    lead_id text, lead_date date, marketing_channel text, campaign_name text, marketing_cost_aed numeric,
    customer_id text, property_id text, agent_id text, lead_status text, qualification_date date,
    site_visit_date date, negotiation_date date, booking_date date, lost_reason text);
CREATE TABLE raw.customers (
    customer_id text, customer_type text, nationality text, preferred_location text,
    preferred_property_type text, budget_aed numeric);
CREATE TABLE raw.properties (
    property_id text, project_name text, developer_name text, location text, property_type text,
    bedrooms integer, property_price_aed numeric, payment_plan text);
CREATE TABLE raw.agents (agent_id text, agent_department text);

\copy raw.leads FROM 'data/dubai_realestate/leads.csv' CSV HEADER
\copy raw.customers FROM 'data/dubai_realestate/customers.csv' CSV HEADER
\copy raw.properties FROM 'data/dubai_realestate/properties.csv' CSV HEADER
\copy raw.agents FROM 'data/dubai_realestate/agents.csv' CSV HEADER
