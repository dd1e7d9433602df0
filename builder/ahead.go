package builder

import (
	"context"
	"errors"
	"io/fs"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/tree"
)

// ahead makes layers that look at nothing below while the first layer is being
// made: dpkg has work for one processor only. A nil one has no layers.
type ahead struct {
	keys map[Key]bool
	done chan struct{}
	// From when done is closed:
	made map[Key]*cachedLayer // that nobody has taken
	err  error
}

// begin starts what can be made beside the first layer, when that one has to be
// made and there is such a thing. The context ends when that fails. Stop ends
// it and waits until it has ended.
func (b *baking) begin(ctx context.Context) (_ context.Context, stop func()) {
	a := &ahead{keys: map[Key]bool{}, done: make(chan struct{}), made: map[Key]*cachedLayer{}}
	type job struct {
		Layer
		inputs []Input
		key    Key
	}
	var jobs []job
	for i, l := range b.plan.Layers {
		if i > 0 && !lookupKind(l.Kind).alone {
			continue
		}
		inputs, err := l.resolved(tree.New(), nil)
		if err != nil {
			return ctx, func() {} // the layer itself will say it in its turn
		}
		key := layerKey(l.Kind, inputs)
		f, _, err := cache.OpenLayer(b.c.Cache, key.String())
		if err == nil {
			f.Close()
		}
		missing := errors.Is(err, fs.ErrNotExist)
		if i == 0 && !missing {
			return ctx, func() {}
		}
		if i > 0 && missing {
			jobs = append(jobs, job{l, inputs, key})
			a.keys[key] = true
		}
	}
	if len(jobs) == 0 {
		return ctx, func() {}
	}
	b.c.Progress = b.c.Progress.Shared()
	b.ahead = a
	own := *b
	own.tree = tree.New()
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for _, j := range jobs {
			found, _, err := own.make(ctx, j.Layer, "", j.inputs, j.key)
			if err != nil {
				a.err = err
				break
			}
			a.made[j.key] = found
		}
		close(a.done) // first: who is cancelled asks why
		if a.err != nil {
			cancel(a.err)
		}
	}()
	return ctx, func() {
		cancel(context.Canceled)
		<-a.done
	}
}

// take waits for the layer and hands it over; nil: it is none of these.
func (a *ahead) take(k Key) (*cachedLayer, error) {
	if a == nil || !a.keys[k] {
		return nil, nil
	}
	<-a.done
	found := a.made[k]
	delete(a.made, k)
	return found, a.err
}

// reason is why the making of layers ended with err: another of them may have
// ended it.
func (a *ahead) reason(err error) error {
	if a == nil {
		return err
	}
	select {
	case <-a.done:
		if a.err != nil && (errors.Is(err, a.err) || errors.Is(err, context.Canceled)) {
			return a.err
		}
	default:
	}
	return err
}

// close closes what nobody has taken.
func (a *ahead) close() {
	if a == nil {
		return
	}
	<-a.done
	for _, l := range a.made {
		l.file.Close()
	}
}
