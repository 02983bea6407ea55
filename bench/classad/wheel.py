"""The same core through its Python wheel: what a user of the package has.

usage: wheel.py ADS JOBS LIMIT; speaks as `core` does.
"""

import heapq
import sys
import time

import classad2


def read(path):
    with open(path, encoding="ascii") as lines:
        return [classad2.ClassAd(line) for line in lines]


def main(ads_path, jobs_path, limit):
    ads, jobs = read(ads_path), read(jobs_path)
    print("ready", len(ads), flush=True)
    for line in sys.stdin:
        at = int(line)
        job = jobs[at]
        began = time.perf_counter_ns()
        found = []
        for ad in ads:
            if job.symmetricMatch(ad):
                # In the scope of the match, as the core has it.
                total = job["Total"].eval(job, ad)
                found.append((total, ad["ListedAt"], ad["Id"]))
        best = heapq.nsmallest(limit, found)
        took = time.perf_counter_ns() - began
        print(at, took, *(word for total, _, which in best for word in (which, total)), flush=True)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
