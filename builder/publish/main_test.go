package publish_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite what docs say of targets")

// cases counts what the contract was tried on.
var cases int

func TestMain(m *testing.M) {
	if os.Getenv("PUBLISH_CHILD") != "" {
		child()
	}
	code := m.Run()
	if cases > 0 && code == 0 {
		fmt.Printf("publish: %d cases, one image each\n", cases)
	}
	os.Exit(code)
}
