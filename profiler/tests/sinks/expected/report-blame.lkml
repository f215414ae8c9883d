In 10.0 s: all 200 major faults ended on mmap_lock, faults waited 41.2 ms for
it; 400 mmap_lock write waits of 49.4 ms in all, worst writer: mprotect,
waited 245 us.

Measured by vmascope 0.1.0 on Linux 6.18.44+deb14-amd64 x86_64, 2 CPUs, 4 KiB
pages, for 10.0 s; target system; VMA lock: refcount; mmap_lock: all.

FAULTS                count   share      p50      p99      max
vma_lock             18,800  94.0 %  1.38 us  2.62 us  2.80 us
fallback                800   4.0 %  54.3 us   105 us   111 us
retry                   200   1.0 %  2.69 ms  5.12 ms  5.30 ms
mmap_lock               200   1.0 %  4.03 us  7.81 us  8.28 us

ACQUIRED IN us       [0,1)  [1,10)  [10,100)  [100,1k)  [1k,10k)  [10k,inf)
read                    40       0     1,000         0         0          0
write                   40       0       160       240         0          0

CHAINS
  44.6 ms  storm-fault-1 (1240), prio 139: page_mkwrite; depth 3, 2 waits
           <- storm (1234), prio 120: mprotect, waited 41.2 ms for the VMA
             <- storm (1241), prio 120: fault, waited 3.40 ms for mmap_lock

STACKS OF WAITERS
  41.2 ms  1 wait
           __vma_start_write
           do_mprotect_pkey
           do_syscall_64

WHAT IF              faults    saved     lost  amplified  conflicts        bound
mainline                  1        0        0          0          0     measured
retry_vma                 1  1.25 ms        0          0          0     estimate
no_drop_uptodate          0        0        0          0          0  lower bound
no_drop_.._no_wb          0        0        0          0          0  lower bound
hold_across_io            1  1.25 ms  30.0 ms    20.0 ms          1  lower bound
held_today               30        0  41.0 ms    3.40 ms          1     measured
conflicts: 1 by the VMAs locked, 1 by the ranges of system calls, 1 by both

Q1   Does a writer block behind a fault in the same VMA?
     No: 0 VMA-writer waits in 440 write sections that locked 0 VMAs (hook
     exact, loss 0).
Q2   What does the retry cost, and what does it buy?
     1 fault gave up the VMA lock to wait, for 40.0 ms in all (longest 40.0 ms).
     1 conflict meanwhile (a write section that locked such a VMA). With the
     lock held, faults would have saved 1.25 ms to 7.00 ms; writers would have
     lost 30.0 ms, and at least 20.0 ms those behind them (estimate). Retries
     under the VMA lock would have saved 1.25 ms.
Q3   What share of faults ends on mmap_lock?
     100 % of 200 major faults ended under mmap_lock, 6.0 % of 20,000 faults
     did. Faults waited for it 1,000 times, 41.2 ms in all, longest 82.0 us.
Q4   Priority inversions and chains?
     1 chain, up to 3 threads deep, 44.6 ms of thread time blocked. Worst:
     storm-fault-1 (1240, prio 139) in page_mkwrite held up 2 waits, 44.6 ms in
     all. 1 priority inversion: 41.0 ms waited for less important threads.
Q5   How uneven are the VMAs that fault?
     VMAs of 1 GiB and more took 68.0 % of the faults and 100 % of what slow
     faults waited.
Q6   What state was the folio in at a retry?
     Of 200 attempts that gave up their lock, 200 looked a folio up: not
     uptodate 190, uptodate 10, uptodate but under writeback 0 (sampled).
Q7   Anonymous against file memory?
     Faults: anon 98.0 %, file 1.0 %, shmem 1.0 %. Slow faults waited:
     file 940 ms.
Q8   Which operation is the writer?
     By what they waited for mmap_lock: mprotect waited 49.4 ms, held 4.94 ms;
     mmap waited 0, held 58.6 us.
Q9   How long is the I/O under a fault, by priority?
     normal 200: p50 3.97 ms, p99 3.97 ms, max 4.00 ms.
Q10  Did a kernel change help?
     One recording cannot tell: record before and after, and let `vmascope diff`
     compare them.

LOSSES               none
