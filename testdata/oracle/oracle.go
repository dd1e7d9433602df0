// Package oracle asks other people's tools what a disk image holds.
package oracle

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// Run runs a program that has to succeed, and returns what it said.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A Partition is one as sfdisk finds it.
type Partition struct {
	Start, Size int64 // bytes
	Name        string
	Type        string // GUID, in capital letters
}

// Partitions are those of a raw disk, by number.
func Partitions(t testing.TB, raw string) map[int]Partition {
	t.Helper()
	var table struct {
		PartitionTable struct {
			SectorSize int64
			Partitions []struct {
				Node, Name, Type string
				Start, Size      int64
			}
		}
	}
	if err := json.Unmarshal([]byte(Run(t, "sfdisk", "--json", raw)), &table); err != nil {
		t.Fatalf("reading what sfdisk says of %s: %v", raw, err)
	}
	all := map[int]Partition{}
	for _, p := range table.PartitionTable.Partitions {
		n := 0
		if _, err := fmt.Sscanf(strings.TrimPrefix(p.Node, raw), "%d", &n); err != nil {
			t.Fatalf("node %q: %v", p.Node, err)
		}
		sector := table.PartitionTable.SectorSize
		all[n] = Partition{p.Start * sector, p.Size * sector, p.Name, p.Type}
	}
	return all
}

// Root names the root file system of a raw disk for e2fsprogs.
func Root(t testing.TB, raw string) string {
	t.Helper()
	for _, p := range Partitions(t, raw) {
		if p.Name == "root" {
			return fmt.Sprintf("%s?offset=%d", raw, p.Start)
		}
	}
	t.Fatalf("%s has no root file system", raw)
	return ""
}

// Debugfs answers a request about a file system, debugfs(8).
func Debugfs(t testing.TB, fs, request string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", request, fs).Output()
	if err != nil {
		t.Fatalf("debugfs: %s: %v", request, err)
	}
	return string(out)
}
