-- After loading. Idle partitions only; equality first, then the range that leaves out most; what
-- else is filtered or ordered by is included, so that a search reads the index alone.
create index partitions_search on partitions (region, net, arch, reach_cpu, reach_memory)
    include (reach_disk, flags, threads, oses, tier, confined, lender, audience, audience_accounts, to_strangers, shortest,
             longest, setup, flat, core, memory, disk, min_cpu, min_memory, min_disk, reliability, listed_at, id)
    where idle;
create index partitions_host on partitions (host);
