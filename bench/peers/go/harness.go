package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Clocks, the check of a result, the repetition and the line of a row, as weft-bench has them.

func cpuNs() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

func sinceNs(start time.Time) float64 { return float64(time.Since(start).Nanoseconds()) }

// statusBytes is a value of /proc/self/status in bytes.
func statusBytes(key string) float64 {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, key+":") {
			kib, _ := strconv.ParseFloat(strings.Fields(line)[1], 64)
			return kib * 1024
		}
	}
	return 0
}

// random is xorshift64, the same numbers as in weft-bench.
type random uint64

func newRandom() random { return 0x9E3779B97F4A7C15 }

func (r *random) below(end uint64) uint64 {
	*r ^= *r << 13
	*r ^= *r >> 7
	*r ^= *r << 17
	return uint64(*r) >> 20 % end
}

// wrong is by how much results are taken to be: BENCH_WRONG shows that a row checks its result.
var wrong = 0

func checkEqual(is, mustBe int) {
	if is != mustBe+wrong {
		fmt.Fprintf(os.Stderr, "wrong result: %d instead of %d\n", is, mustBe+wrong)
		os.Exit(1)
	}
}

// sumBelow is 0 + 1 + ... + (n - 1).
func sumBelow(n int) int { return n * (n - 1) / 2 }

func reps() int {
	count, err := strconv.Atoi(os.Getenv("REPS"))
	if err != nil {
		return 7
	}
	if count < 1 {
		return 1
	}
	if count > 99 {
		return 99
	}
	return count
}

func report(row string, threads, n, ops int, v []float64, extra string) {
	sort.Float64s(v)
	fmt.Printf("%s go %d %d %.1f %.1f %.1f ops=%d %s\n", row, threads, n, v[len(v)/2], v[0],
		v[len(v)-1], ops, extra)
}

// run warms up once and repeats op REPS times; op returns how many operations it did. It runs in
// the main goroutine, which is one like the others.
func run(row string, threads, n int, op func(n int) int) {
	var v []float64
	ops := op(n)
	cpu, wall := cpuNs(), time.Now()
	for rep := 0; rep < reps(); rep++ {
		start := time.Now()
		ops = op(n)
		v = append(v, sinceNs(start)/float64(ops))
	}
	cpu = cpuNs() - cpu
	report(row, threads, n, ops, v, fmt.Sprintf("cpu_ns=%.1f cores=%.2f",
		cpu/float64(ops)/float64(reps()), cpu/sinceNs(wall)))
}
