package format

import (
	"context"
	"runtime"
	"sync"
)

// maxWorkers keeps memory in bounds on a machine of many processors.
const maxWorkers = 16

func workers() int { return min(runtime.GOMAXPROCS(0), maxWorkers) }

// ordered moves items through three steps: next fills one, work changes it, on
// several items at a time, and done takes them in the order in which next gave
// them. Next returns false when there is no more. At most twice as many items
// as workers are made, by newItem, and used over and over.
//
// The first error of any step, or the end of ctx, ends all of them.
func ordered[T any](ctx context.Context, newItem func() T, next func(T) (bool, error), work func(T) error, done func(T) error) error {
	type job struct {
		item  T
		ready chan error
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	n := workers()
	free := make(chan *job, 2*n)
	for range cap(free) {
		free <- &job{item: newItem(), ready: make(chan error, 1)}
	}
	todo := make(chan *job, cap(free))
	inOrder := make(chan *job, cap(free))

	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(todo)
		defer close(inOrder)
		for {
			var j *job
			select {
			case j = <-free:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return
			}
			more, err := next(j.item)
			if err != nil {
				stop(err)
				return
			}
			if !more {
				return
			}
			todo <- j // both have room for every job there is
			inOrder <- j
		}
	})
	for range n {
		wg.Go(func() {
			for j := range todo {
				if ctx.Err() != nil {
					j.ready <- context.Cause(ctx)
					continue
				}
				j.ready <- work(j.item)
			}
		})
	}
	for j := range inOrder {
		err := <-j.ready
		if err == nil && ctx.Err() == nil {
			err = done(j.item)
		}
		if err != nil {
			stop(err) // the first cause stays
		}
		free <- j
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
