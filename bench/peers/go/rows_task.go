package main

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	batchMax = 10000 // goroutines alive at a time in the spawn_many rows
	depthMax = 1000  // length of a chain, and number of pairs in ping_pong
)

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// Spawn a goroutine that returns a value, and wait for it.
func spawnJoinSeq(n int) int {
	sum := 0
	for i := 0; i < n; i++ {
		i, c := i, make(chan int, 1)
		go func() { c <- i }()
		sum += <-c
	}
	checkEqual(sum, sumBelow(n))
	return n
}

// Detached goroutines from one; the last to end signals.
func spawnMany(n int) int {
	batch := min(n, batchMax)
	rounds := n / batch
	for r := 0; r < rounds; r++ {
		left := int64(batch)
		done := make(chan struct{})
		for i := 0; i < batch; i++ {
			go func() {
				if atomic.AddInt64(&left, -1) == 0 {
					close(done)
				}
			}()
		}
		<-done
		checkEqual(int(atomic.LoadInt64(&left)), 0)
	}
	return rounds * batch
}

// Many from one, which keeps what they answer through and waits for them all.
func spawnManyJoin(n int) int {
	batch := min(n, batchMax)
	rounds := n / batch
	handles := make([]chan int, batch)
	sum := 0
	for r := 0; r < rounds; r++ {
		for i := 0; i < batch; i++ {
			i, c := i, make(chan int, 1)
			handles[i] = c
			go func() { c <- i }()
		}
		for _, c := range handles {
			sum += <-c
		}
	}
	checkEqual(sum, rounds*sumBelow(batch))
	return rounds * batch
}

func chain(done chan int, left, depth int) {
	if left == 0 {
		done <- depth
	} else {
		go chain(done, left-1, depth+1)
	}
}

// Each goroutine spawns the next one and ends.
func chainedSpawn(n int) int {
	depth := min(n, depthMax)
	rounds := n / depth
	for r := 0; r < rounds; r++ {
		done := make(chan int, 1)
		chain(done, depth, 0)
		checkEqual(<-done, depth)
	}
	return rounds * depth
}

// So many goroutines that yield.
func yields(n, count int) int {
	each := n / count
	result := make(chan int, count)
	for i := 0; i < count; i++ {
		go func() {
			yielded := 0
			for ; yielded < each; yielded++ {
				runtime.Gosched()
			}
			result <- yielded
		}()
	}
	sum := 0
	for i := 0; i < count; i++ {
		sum += <-result
	}
	checkEqual(sum, each*count)
	return each * count
}

// Pairs of goroutines that exchange a value each way.
func pingPong(n int) int {
	pairs := min(n, depthMax)
	rounds := n / pairs
	for r := 0; r < rounds; r++ {
		left := int64(pairs)
		done := make(chan struct{})
		ask := func() {
			there, back := make(chan struct{}, 1), make(chan struct{}, 1)
			go func() {
				<-there
				back <- struct{}{}
			}()
			there <- struct{}{}
			<-back
			if atomic.AddInt64(&left, -1) == 0 {
				close(done)
			}
		}
		go func() {
			for i := 0; i < pairs; i++ {
				go ask()
			}
		}()
		<-done
		checkEqual(int(atomic.LoadInt64(&left)), 0)
	}
	return rounds * pairs
}

// Jobs for a goroutine that is tied to a thread of its own, one at a time, there and back. Go has no
// pool for calls that block: the runtime starts a thread when one does.
func lockedThread(n int) int {
	type job struct {
		value  int
		answer chan int
	}
	jobs := make(chan job)
	go func() {
		runtime.LockOSThread()
		for j := range jobs {
			j.answer <- j.value
		}
	}()
	sum := 0
	for i := 0; i < n; i++ {
		j := job{i, make(chan int, 1)}
		jobs <- j
		sum += <-j.answer
	}
	close(jobs)
	checkEqual(sum, sumBelow(n))
	return n
}

// n goroutines that wait: their memory.
func idleMem(row string, threads, n int) {
	cpu, rss := cpuNs(), statusBytes("VmRSS")
	never := make(chan struct{})
	var parked int64
	start := time.Now()
	for i := 0; i < n; i++ {
		go func() {
			atomic.AddInt64(&parked, 1)
			<-never
		}()
	}
	spawnNs := sinceNs(start) / float64(n)
	for atomic.LoadInt64(&parked) < int64(n) {
		runtime.Gosched()
	}
	parkedNs := sinceNs(start) / float64(n)
	time.Sleep(50 * time.Millisecond)
	checkEqual(int(atomic.LoadInt64(&parked)), n)
	rss = (statusBytes("VmRSS") - rss) / float64(n)
	report(row, threads, n, n, []float64{parkedNs}, fmt.Sprintf(
		"rss_bytes_per_task=%.1f spawn_ns=%.1f cpu_ns=%.1f", rss, spawnNs, (cpuNs()-cpu)/float64(n)))
	os.Exit(0) // without ending the goroutines, which Go cannot
}
