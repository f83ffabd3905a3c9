// The rows of weft-bench in Go: the same work, in the words of Go.
//
//	gobench <row> <threads> <n>       threads: GOMAXPROCS
//	gobench tcp_echo <threads> <port>
//
// Near things under names of their own: timer_yield (a timer around a yield, which it could not end)
// and locked_thread (jobs for a goroutine that is tied to a thread of its own).
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
)

var rows = map[string]func(n int) int{
	"spawn_join_seq":    spawnJoinSeq,
	"spawn_many":        spawnMany,
	"spawn_many_join":   spawnManyJoin,
	"chained_spawn":     chainedSpawn,
	"yield_many":        func(n int) int { return yields(n, 200) },
	"ctx_switch":        func(n int) int { return yields(n, 2) },
	"ping_pong":         pingPong,
	"mpsc_spsc":         func(n int) int { return mpsc(n, 1) },
	"mpsc_4p":           func(n int) int { return mpsc(n, 4) },
	"mpsc_rendezvous":   mpscRendezvous,
	"mutex_uncontended": mutexUncontended,
	"mutex_contended":   func(n int) int { return mutex(n, false) },
	"mutex_yield":       func(n int) int { return mutex(n, true) },
	"sem_contended":     func(n int) int { return semaphore(n, 1) },
	"sem4_contended":    func(n int) int { return semaphore(n, 4) },
	"select2":           select2,
	"timer_yield":       timerYield,
	"locked_thread":     lockedThread,
}

var wholeRows = map[string]func(row string, threads, n int){
	"timers":   timers,
	"lateness": lateness,
	"idle_mem": idleMem,
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: gobench <row> <threads> <n>")
		os.Exit(2)
	}
	row := os.Args[1]
	threads, errThreads := strconv.Atoi(os.Args[2])
	n, errN := strconv.Atoi(os.Args[3])
	if errThreads != nil || errN != nil || threads < 1 || n < 1 {
		fmt.Fprintln(os.Stderr, "threads and n are numbers above 0")
		os.Exit(2)
	}
	if _, isSet := os.LookupEnv("BENCH_WRONG"); isSet {
		wrong = 1
	}
	runtime.GOMAXPROCS(threads)
	if row == "tcp_echo" {
		tcpEcho(n)
	} else if op, ok := rows[row]; ok {
		run(row, threads, n, op)
	} else if whole, ok := wholeRows[row]; ok {
		whole(row, threads, n)
	} else {
		fmt.Fprintf(os.Stderr, "there is no row '%s' for go\n", row)
		os.Exit(3)
	}
}
