// Go's side of tools/compare: the workloads that Weft's benchmarks carry the same names for, operation
// for operation.
//
//	compare_go [-procs N] [-seconds S] NAME    prints the nanoseconds that one operation takes
//	compare_go -list                           prints the names
//
// A workload runs once for warming up, then again and again until the time is used up; the figure is
// the mean of those runs, as Google Benchmark's is on the other side.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"sync"
	"time"
)

// A workload returns how many operations it did, and how long they took.
type workload func() (int, time.Duration)

var workloads = map[string]workload{
	"SpawnExit":    spawnExit,
	"SpawnJoin":    spawnJoin,
	"Yield":        yield,
	"PingPong":     pingPong,
	"Pipe":         pipe,
	"Crowd":        crowd,
	"Select":       selecting,
	"Skynet":       skynet,
	"Mutex":        mutex,
	"Sleepers":     sleepers,
	"SleepLate":    sleepLate,
	"Timer":        timer,
	"Exec":         execTrue,
	"Echo1conn":    func() (int, time.Duration) { return echo(1) },
	"Echo64conn":   func() (int, time.Duration) { return echo(64) },
	"Echo1000conn": func() (int, time.Duration) { return echo(1000) },
}

func main() {
	procs := flag.Int("procs", 0, "GOMAXPROCS; 0: what Go chooses")
	seconds := flag.Float64("seconds", 0.5, "how long to measure, at least")
	list := flag.Bool("list", false, "print the names of the workloads")
	flag.Parse()
	if *list {
		var names []string
		for name := range workloads {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Println(name)
		}
		return
	}
	run, known := workloads[flag.Arg(0)]
	if !known || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "compare_go: name one workload (-list prints them)")
		os.Exit(2)
	}
	if *procs > 0 {
		runtime.GOMAXPROCS(*procs)
	}

	run()
	var operations int
	var took time.Duration
	end := time.Now().Add(time.Duration(*seconds * float64(time.Second)))
	for operations == 0 || time.Now().Before(end) {
		n, d := run()
		operations += n
		took += d
	}
	fmt.Printf("%.3f\n", float64(took.Nanoseconds())/float64(operations))
}

// inParallel runs the tasks as goroutines and waits for all of them.
func inParallel(tasks int, task func(number int)) {
	var all sync.WaitGroup
	all.Add(tasks)
	for number := 0; number < tasks; number++ {
		go func(number int) {
			defer all.Done()
			task(number)
		}(number)
	}
	all.Wait()
}

// Goroutines that end at once, a thousand at a time; each thousand is waited for.
func spawnExit() (int, time.Duration) {
	const rounds, size = 1000, 1000
	var all sync.WaitGroup
	start := time.Now()
	for round := 0; round < rounds; round++ {
		all.Add(size)
		for i := 0; i < size; i++ {
			go all.Done()
		}
		all.Wait()
	}
	return rounds * size, time.Since(start)
}

// One goroutine after the other, each waited for by its message.
func spawnJoin() (int, time.Duration) {
	const n = 500_000
	ended := make(chan int)
	start := time.Now()
	for i := 0; i < n; i++ {
		go func() { ended <- 1 }()
		<-ended
	}
	return n, time.Since(start)
}

// Two goroutines for each processor that do nothing but yield; per yield and processor.
func yield() (int, time.Duration) {
	const n = 2_000_000
	start := time.Now()
	inParallel(2*runtime.GOMAXPROCS(0), func(int) {
		for i := 0; i < n; i++ {
			runtime.Gosched()
		}
	})
	return 2 * n, time.Since(start)
}

// A round trip over two unbuffered channels.
func pingPong() (int, time.Duration) {
	const n = 1_000_000
	there, back := make(chan int), make(chan int)
	defer close(there)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		there <- i
		<-back
	}
	return n, time.Since(start)
}

// One producer, one consumer, a buffer of 128; per element.
func pipe() (int, time.Duration) {
	const n = 5_000_000
	values, result := make(chan int, 128), make(chan int)
	go func() {
		sum := 0
		for v := range values {
			sum += v
		}
		result <- sum
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		values <- i
	}
	close(values)
	sum := <-result
	took := time.Since(start)
	if sum != n*(n-1)/2 {
		panic("Pipe: values were lost")
	}
	return n, took
}

// Eight producers and eight consumers on one channel with a buffer of 128; per element.
func crowd() (int, time.Duration) {
	const side, each = 8, 500_000
	values := make(chan int, 128)
	var producers, consumers sync.WaitGroup
	producers.Add(side)
	consumers.Add(side)
	start := time.Now()
	for i := 0; i < side; i++ {
		go func() {
			for range values {
			}
			consumers.Done()
		}()
		go func() {
			for n := 0; n < each; n++ {
				values <- n
			}
			producers.Done()
		}()
	}
	producers.Wait()
	close(values)
	consumers.Wait()
	return side * each, time.Since(start)
}

// A sender that selects between two channels and a receiver that selects among three; per value.
func selecting() (int, time.Duration) {
	const n = 1_000_000
	a, b, end := make(chan int), make(chan int), make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			select {
			case a <- i:
			case b <- i:
			}
		}
		close(end)
	}()
	start := time.Now()
	for {
		select {
		case <-a:
		case <-b:
		case <-end:
			return n, time.Since(start)
		}
	}
}

// A tree of 1,111,111 goroutines with ten children each, over unbuffered channels, that adds up the
// numbers of its leaves; per goroutine.
func skynet() (int, time.Duration) {
	root := make(chan int)
	start := time.Now()
	go skynetNode(root, 0, 1_000_000)
	if <-root != 499_999_500_000 {
		panic("Skynet: the sum is wrong")
	}
	return 1_111_111, time.Since(start)
}

func skynetNode(parent chan int, first, leaves int) {
	if leaves == 1 {
		parent <- first
		return
	}
	children := make(chan int)
	share := leaves / 10
	for i := 0; i < 10; i++ {
		go skynetNode(children, first+i*share, share)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-children
	}
	parent <- sum
}

// Eight goroutines that lock, add one and unlock; per lock.
func mutex() (int, time.Duration) {
	const tasks, each = 8, 1_000_000
	var lock sync.Mutex
	count := 0
	start := time.Now()
	inParallel(tasks, func(int) {
		for i := 0; i < each; i++ {
			lock.Lock()
			count++
			lock.Unlock()
		}
	})
	took := time.Since(start)
	if count != tasks*each {
		panic("Mutex: it does not exclude")
	}
	return tasks * each, took
}

// 200,000 goroutines that each sleep once, for 1 to 1000 us.
func sleepers() (int, time.Duration) {
	const n = 200_000
	start := time.Now()
	inParallel(n, func(i int) { time.Sleep(time.Duration(1+i%1000) * time.Microsecond) })
	return n, time.Since(start)
}

// How late a program that does nothing else wakes from a sleep of 50 us.
func sleepLate() (int, time.Duration) {
	const n, nap = 2000, 50 * time.Microsecond
	start := time.Now()
	for i := 0; i < n; i++ {
		time.Sleep(nap)
	}
	return n, time.Since(start) - n*nap
}

// A timer an hour away is made and stopped.
func timer() (int, time.Duration) {
	const n = 1_000_000
	start := time.Now()
	for i := 0; i < n; i++ {
		time.NewTimer(time.Hour).Stop()
	}
	return n, time.Since(start)
}

// A program that does nothing is run and waited for.
func execTrue() (int, time.Duration) {
	const n = 200
	start := time.Now()
	for i := 0; i < n; i++ {
		must(exec.Command("/bin/true").Run())
	}
	return n, time.Since(start)
}

// Round trips of 64 bytes over loopback TCP, both ends here, a goroutine for each end. Connecting
// is counted in, as it is on the other side.
func echo(connections int) (int, time.Duration) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	trips := 100_000 / connections
	start := time.Now()
	inParallel(connections, func(int) {
		conn, err := net.Dial("tcp", listener.Addr().String())
		must(err)
		defer conn.Close()
		message := make([]byte, 64)
		for i := 0; i < trips; i++ {
			_, err = conn.Write(message)
			must(err)
			_, err = io.ReadFull(conn, message)
			must(err)
		}
	})
	return trips * connections, time.Since(start)
}

func serve(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err = conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
