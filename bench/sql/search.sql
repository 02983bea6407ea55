-- $1 cpu, $2 memory, $3 disk, $4 vcpus, $5 arch, $6 bit of the os, $7 regions, $8 nets, $9 hours, $10 price at most,
-- $11 emulated will do, $12 account that asks, $13 os,
-- $14 memory at most, $15 bits of flags
select p.id, f.name, h.name, h.tier, h.cpu_model, greatest($1, p.min_cpu), greatest($2, p.min_memory),
       greatest($3, p.min_disk), $4::int, i.reference, p.hourly, p.total, p.setup, p.flat, p.core, p.memory, p.disk,
       p.reliability
from (
    select id, min_cpu, min_memory, min_disk, hourly, setup + hourly * $9 as total, setup, flat, core, memory, disk,
           reliability, listed_at
    from (
        select *, flat + core * greatest($1, min_cpu) / 1000 + memory * greatest($2, min_memory) / 1024
                  + disk * greatest($3, min_disk) as hourly
        from partitions
        where idle and region = any ($7) and net = any ($8) and arch = $5
          and reach_cpu >= $1 and reach_memory >= $2 and reach_disk >= $3
          and greatest($2, min_memory) <= $14 and flags & $15 = $15
          and threads >= $4 and oses & $6 <> 0
          and shortest <= $9 * 3600 and longest >= $9 * 3600
          and confined and (tier = 1 or ($11 and to_strangers))
          and (audience = 0 or lender = $12 or (audience = 2 and $12 = any (audience_accounts)))
        offset 0
    ) as fitting
    where hourly <= $10
    order by total, reliability desc, listed_at, id
    limit 20
) as p
join partitions as f on f.id = p.id
join hosts as h on h.id = f.host
join images as i on i.arch = $5 and i.os = $13
order by p.total, p.reliability desc, p.listed_at, p.id
