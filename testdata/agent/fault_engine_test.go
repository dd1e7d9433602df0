package agenttest

import (
	"context"
	"strings"
	"testing"
	"time"
)

func (b *faulty) lateEngine(t *testing.T) {
	b.StopDocker()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run := b.Command(ctx, "prose-firstboot", "run")
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		if s, code := b.status(t); code != 0 && strings.Contains(item(s, "pod").Why, "docker.sock") {
			break
		} else if time.Since(begin) > time.Minute {
			t.Fatalf("waiting until it says that there is no engine: a minute is over\n%s", b.agent("status").out)
		}
	}
	b.StartDocker()
	if err := run.Wait(); err != nil {
		t.Errorf("the run that waited for the engine: %v", err)
	}
}
