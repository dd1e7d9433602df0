package agenttest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// A point is a call of a journey at which the agent is killed: the n-th that is
// like this, from 1. Threads make a call's place among all another one each time.
type point struct {
	journey int
	n       int
	call    string
}

// pointAt is the point of the i-th call of a journey.
func pointAt(calls [][]string, j, i int) point {
	n := 0
	for _, c := range calls[j][:i+1] {
		if c == calls[j][i] {
			n++
		}
	}
	return point{j, n, calls[j][i]}
}

// sample are how many points TestCrashes takes by itself.
const sample = 100

// TestCrashes kills the agent at its system calls, in journeys that matter, and
// has it go on: at a fixed sample of them, or with AGENT_CRASHES=all at every
// fifth. It prints lines that begin with "crashes:".
func TestCrashes(t *testing.T) {
	const machines = 5 // most of the time is waiting
	all := os.Getenv("AGENT_CRASHES") == "all"
	begin := time.Now()
	boxes := make([]*box, machines)
	for i := range boxes {
		boxes[i] = newBox(t)
	}
	each(boxes, boxes, func(b, _ *box) { b.states(t) })
	if t.Failed() {
		return
	}
	fmt.Printf("crashes: %d machines in %v\n", machines, time.Since(begin).Round(time.Second))

	calls, shapes := make([][]string, len(journeys)), make([]map[string]string, len(journeys))
	var numbers []int
	for i := range journeys {
		numbers = append(numbers, i)
	}
	each(boxes, numbers, func(b *box, i int) { calls[i], shapes[i] = b.reference(t, &journeys[i]) })
	if t.Failed() {
		return
	}
	points := choose(calls, sample)
	if all {
		points = every(calls, 5)
	}
	fmt.Printf("crashes: %d points chosen, %v from the beginning\n", len(points), time.Since(begin).Round(time.Second))

	left := map[int]int{} // points by journey
	for _, p := range points {
		left[p.journey]++
	}
	var mu sync.Mutex
	results, hits, tried, bad := make([]result, len(journeys)), map[string]int{}, 0, 0
	each(boxes, points, func(b *box, p point) {
		mu.Lock()
		enough := bad > 20
		mu.Unlock()
		if enough {
			return
		}
		began := time.Now()
		hit, err := b.crash(t, &journeys[p.journey], p, shapes[p.journey])
		mu.Lock()
		defer mu.Unlock()
		r := &results[p.journey]
		r.points++
		if tried++; tried%50 == 0 {
			fmt.Printf("crashes: so far %d, %v from the beginning\n", tried, time.Since(begin).Round(time.Second))
		}
		r.longest = max(r.longest, time.Since(began))
		hits[class(hit)]++
		if err == nil {
			r.good++
		} else {
			bad++
			t.Errorf("%s, killed at call %d of %s: %v", journeys[p.journey].name, p.n, p.call, err)
		}
		if left[p.journey]--; left[p.journey] == 0 {
			fmt.Printf("crashes: %-20s %s, of %d calls\n", journeys[p.journey].name, r, len(calls[p.journey]))
		}
	})
	sum := result{}
	for i, r := range results {
		if left[i] > 0 {
			fmt.Printf("crashes: %-20s %s, of %d calls, not at its end\n", journeys[i].name, &r, len(calls[i]))
		}
		sum.points, sum.good, sum.longest = sum.points+r.points, sum.good+r.good, max(sum.longest, r.longest)
	}
	fmt.Printf("crashes: %-20s %s, in %v\n", "all", &sum, time.Since(begin).Round(time.Second))
	for _, what := range slices.Sorted(maps.Keys(hits)) {
		fmt.Printf("crashes: %4d  %s\n", hits[what], what)
	}
	if sum.points < len(points) {
		t.Errorf("%d points were not tried", len(points)-sum.points)
	}
}

// A result counts points.
type result struct {
	points, good int
	longest      time.Duration
}

func (r *result) String() string {
	return fmt.Sprintf("%4d points, %4d good, the longest %4.1f s", r.points, r.good, r.longest.Seconds())
}

// each has every machine take one of the list after the other.
func each[T any](boxes []*box, list []T, do func(b *box, one T)) {
	queue := make(chan T, len(list))
	for _, one := range list {
		queue <- one
	}
	close(queue)
	var workers sync.WaitGroup
	for _, b := range boxes {
		workers.Go(func() {
			for one := range queue {
				do(b, one)
			}
		})
	}
	workers.Wait()
}

// every is each n-th call of every journey. Journeys begin at different ones.
func every(calls [][]string, n int) []point {
	var out []point
	for j := range calls {
		for i := j % n; i < len(calls[j]); i += n {
			out = append(out, pointAt(calls, j, i))
		}
	}
	return out
}

// choose takes one call of each class, from one journey after the other, and
// fills up to n with calls in even distances over all journeys.
func choose(calls [][]string, n int) []point {
	var out []point
	taken, seen := map[[2]int]bool{}, map[string]bool{}
	take := func(j, i int) {
		if !taken[[2]int{j, i}] {
			taken[[2]int{j, i}] = true
			seen[class(calls[j][i])] = true
			out = append(out, pointAt(calls, j, i))
		}
	}
	for more, turn := true, 0; more; turn++ {
		more = false
		for k := range calls {
			j := (k + turn) % len(calls)
			if i := slices.IndexFunc(calls[j], func(c string) bool { return !seen[class(c)] }); i >= 0 {
				take(j, i)
				more = true
			}
		}
	}
	total := 0
	for _, c := range calls {
		total += len(c)
	}
	for rest, at := max(n-len(out), 1), 0; at < rest; at++ {
		i := (2*at + 1) * total / (2 * rest)
		for j := range calls {
			if i < len(calls[j]) {
				take(j, i)
				break
			}
			i -= len(calls[j])
		}
	}
	return out
}
