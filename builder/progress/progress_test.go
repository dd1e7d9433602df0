package progress

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Of several works in hand the oldest is painted, and the end of another does
// not take it from the screen.
func TestLive(t *testing.T) {
	var out locked
	f, stop := Live(&out)
	f(Event{Stage: "bake", Name: "base", State: Started})
	f(Event{Stage: "bake", Name: "containers", State: Started})
	f(Event{Stage: "bake", Name: "containers", State: Done, Elapsed: time.Second})
	painted := out.String()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String()[len(painted):], "bake base …"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for the base on the screen: a minute is over: %q", out.String())
		}
	}
	f(Event{Stage: "bake", Name: "base", State: Done})
	stop()
	if !strings.HasSuffix(out.String(), "bake     base                     0.0 s\n") || strings.Contains(painted, "bake containers …") {
		t.Errorf("%q", out.String())
	}
}

func TestShared(t *testing.T) {
	n := 0
	f := Func(func(Event) { n++ }).Shared()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				f(Event{})
			}
		})
	}
	wg.Wait()
	if n != 8000 {
		t.Errorf("%d events of 8000", n)
	}
}

// locked is a buffer for several goroutines.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
