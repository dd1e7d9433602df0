package format

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

type item struct{ n, squared int }

// numbers runs the pipeline over 0 to 99.
func numbers(ctx context.Context, work, done func(*item) error) error {
	n := 0
	return ordered(ctx, func() *item { return &item{} },
		func(i *item) (bool, error) {
			i.n = n
			n++
			return n <= 100, nil
		}, work, done)
}

func TestOrdered(t *testing.T) {
	var got []int
	err := numbers(t.Context(),
		func(i *item) error {
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
			i.squared = i.n * i.n
			return nil
		},
		func(i *item) error {
			got = append(got, i.squared)
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if len(got) != 100 || got[n] != n*n {
			t.Fatalf("got %v", got)
		}
	}
}

// An error of any step is the error of all, and nothing is done after it.
func TestOrderedErrors(t *testing.T) {
	wrong := errors.New("wrong")
	at := func(n int) func(*item) error {
		return func(i *item) error {
			if i.n == n {
				return wrong
			}
			return nil
		}
	}
	for _, n := range []int{0, 1, 7, 99} {
		var done []int
		note := func(i *item) error {
			done = append(done, i.n)
			return nil
		}
		if err := numbers(t.Context(), at(n), note); err != wrong || slices.Contains(done, n) || len(done) > n {
			t.Errorf("work fails at %d: error %v, done %v", n, err, done)
		}
		if err := numbers(t.Context(), at(-1), at(n)); err != wrong {
			t.Errorf("the end fails at %d: error %v", n, err)
		}
		given := 0
		err := ordered(t.Context(), func() *item { return &item{} }, func(i *item) (bool, error) {
			given++
			if given == n+1 {
				return false, wrong
			}
			return true, nil
		}, at(-1), at(-1))
		if err != wrong {
			t.Errorf("the start fails at %d: error %v", n, err)
		}
	}
}

func TestOrderedCancel(t *testing.T) {
	for _, n := range []int32{0, 5, 50} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var worked atomic.Int32
		err := numbers(ctx, func(*item) error {
			if worked.Add(1) == n+1 {
				cancel(errStopped)
			}
			return nil
		}, func(*item) error { return nil })
		if err != errStopped {
			t.Errorf("cancelled at %d: error %v", n, err)
		}
	}
}
