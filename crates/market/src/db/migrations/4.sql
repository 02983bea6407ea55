-- How the machine of a lease was started.

alter table leases add column started text;
