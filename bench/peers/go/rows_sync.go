package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const tasks = 8 // that want a mutex or a semaphore

func produce(c chan<- uint64, count int) {
	for i := 0; i < count; i++ {
		c <- uint64(i)
	}
}

// One receiver, and so many senders, over a channel of 1,024.
func mpsc(n, producers int) int {
	each := n / producers
	c := make(chan uint64, 1024)
	result := make(chan int, 1)
	var wg sync.WaitGroup
	wg.Add(producers)
	for p := 0; p < producers; p++ {
		go func() {
			produce(c, each)
			wg.Done()
		}()
	}
	go func() {
		sum := 0
		for v := range c {
			sum += int(v) + 1 // counts them, too
		}
		result <- sum
	}()
	wg.Wait()
	close(c) // of the channels of Go one has to know who was last
	checkEqual(<-result, producers*sumBelow(each+1))
	return each * producers
}

// Round trips of two goroutines over two channels of capacity 1.
func mpscRendezvous(n int) int {
	there, back := make(chan uint64, 1), make(chan uint64, 1)
	result := make(chan int, 1)
	go func() {
		sum := 0
		for i := 0; i < n; i++ {
			there <- uint64(i)
			sum += int(<-back)
		}
		close(there)
		result <- sum
	}()
	go func() {
		for v := range there {
			back <- v
		}
	}()
	checkEqual(<-result, sumBelow(n))
	return n
}

func mutexUncontended(n int) int {
	var m sync.Mutex
	count := 0
	for i := 0; i < n; i++ {
		m.Lock()
		count++
		m.Unlock()
	}
	checkEqual(count, n)
	return n
}

// A counter under a mutex; with a yield inside the section, so that the others queue.
func mutex(n int, yields bool) int {
	each := n / tasks
	var m sync.Mutex
	var wg sync.WaitGroup
	count := 0
	wg.Add(tasks)
	for t := 0; t < tasks; t++ {
		go func() {
			for i := 0; i < each; i++ {
				m.Lock()
				count++
				if yields {
					runtime.Gosched()
				}
				m.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	checkEqual(count, each*tasks)
	return each * tasks
}

// A channel is the semaphore of Go's standard library.
func semaphore(n, permits int) int {
	each := n / tasks
	s := make(chan struct{}, permits)
	var wg sync.WaitGroup
	var acquired int64
	wg.Add(tasks)
	for t := 0; t < tasks; t++ {
		go func() {
			count := 0
			for ; count < each; count++ {
				s <- struct{}{}
				<-s
			}
			atomic.AddInt64(&acquired, int64(count))
			wg.Done()
		}()
	}
	wg.Wait()
	checkEqual(int(acquired), each*tasks)
	checkEqual(len(s), 0)
	return each * tasks
}

// Two goroutines send n/2 messages each through channels of 1,024, a third selects from both.
func select2(n int) int {
	a, b := make(chan uint64, 1024), make(chan uint64, 1024)
	for _, c := range []chan uint64{a, b} {
		c := c
		go func() {
			produce(c, n/2)
			close(c)
		}()
	}
	result := make(chan int, 1)
	go func() {
		sum := 0
		for a != nil || b != nil {
			select {
			case v, ok := <-a:
				if ok {
					sum += int(v) + 1 // counts them, too
				} else {
					a = nil
				}
			case v, ok := <-b:
				if ok {
					sum += int(v) + 1
				} else {
					b = nil
				}
			}
		}
		result <- sum
	}()
	checkEqual(<-result, 2*sumBelow(n/2+1))
	return n / 2 * 2
}
