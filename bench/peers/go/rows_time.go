package main

import (
	"fmt"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A timer is armed, the goroutine yields, the timer is disarmed.
func timerYield(n int) int {
	count := 0
	for i := 0; i < n; i++ {
		timer := time.NewTimer(5 * time.Second)
		runtime.Gosched()
		if timer.Stop() {
			count++
		}
	}
	checkEqual(count, n)
	return n
}

// n goroutines that sleep up to a second.
func timers(row string, threads, n int) {
	cpu, wall := cpuNs(), time.Now()
	r := newRandom()
	var wg sync.WaitGroup
	var woken int64
	wg.Add(n)
	start := time.Now()
	for i := 0; i < n; i++ {
		d := time.Duration(r.below(1000000)) * time.Microsecond
		go func() {
			time.Sleep(d)
			atomic.AddInt64(&woken, 1)
			wg.Done()
		}()
	}
	spawnNs := sinceNs(start) / float64(n)
	wg.Wait()
	checkEqual(int(woken), n)
	wallMs := sinceNs(wall) / 1e6
	cpu = (cpuNs() - cpu) / float64(n)
	report(row, threads, n, n, []float64{cpu}, fmt.Sprintf(
		"cpu_ns=%.1f wall_ms=%.1f spawn_ns=%.1f hwm_bytes_per_task=%.1f",
		cpu, wallMs, spawnNs, statusBytes("VmHWM")/float64(n)))
}

// n goroutines that sleep 1 to 100 ms: how late do they wake?
func lateness(row string, threads, n int) {
	r := newRandom()
	late := make([]float64, n)
	var wg sync.WaitGroup
	wg.Add(n)
	for i := 0; i < n; i++ {
		i, d := i, time.Duration(1000+r.below(99000))*time.Microsecond
		go func() {
			start := time.Now()
			time.Sleep(d)
			late[i] = sinceNs(start) - float64(d.Nanoseconds())
			wg.Done()
		}()
	}
	wg.Wait()
	inTime := 0
	for _, ns := range late {
		if ns >= 0 {
			inTime++
		}
	}
	checkEqual(inTime, n)
	sort.Float64s(late)
	report(row, threads, n, n, []float64{late[0], late[n/2], late[n-1]}, fmt.Sprintf(
		"p50_us=%.1f p99_us=%.1f max_us=%.1f",
		late[n/2]/1e3, late[n*99/100]/1e3, late[n-1]/1e3))
}
