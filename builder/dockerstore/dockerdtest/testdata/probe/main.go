// Probe is the program in the test images: it tells what a container sees.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Node is one name in the container. Its fields match the test's.
type Node struct {
	Path     string // quoted
	Mode     uint32 // st_mode
	UID, GID uint32
	Links    uint64
	Rdev     uint64
	Time     int64 // nanoseconds
	Sum      string
	Target   string // of a symlink, quoted
	Xattrs   map[string]string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "wait":
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		return nil
	case len(args) == 1 && args[0] == "walk":
		return walk()
	case len(args) == 1 && args[0] == "id":
		fmt.Println(os.Getuid(), os.Geteuid())
		return nil
	case len(args) == 3 && args[0] == "chown":
		uid, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return os.Chown(args[1], uid, -1)
	}
	return fmt.Errorf("probe wait | walk | id | chown FILE UID, not %q", args)
}

func walk() error {
	enc := json.NewEncoder(os.Stdout)
	return filepath.WalkDir("/", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// What the engine puts into every container.
		switch p {
		case "/proc", "/sys", "/dev":
			return fs.SkipDir
		case "/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab":
			return nil
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return err
		}
		n := Node{Path: strconv.QuoteToASCII(p), Mode: st.Mode, UID: st.Uid, GID: st.Gid, Links: uint64(st.Nlink), Rdev: uint64(st.Rdev), Time: st.Mtim.Nano()}
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			n.Sum = fmt.Sprintf("%x", sha256.Sum256(b))
		case syscall.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			n.Target = strconv.QuoteToASCII(target)
			return enc.Encode(n)
		}
		list := make([]byte, 4096)
		size, err := syscall.Listxattr(p, list)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for _, name := range strings.FieldsFunc(string(list[:size]), func(r rune) bool { return r == 0 }) {
			value := make([]byte, 4096)
			size, err := syscall.Getxattr(p, name, value)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", p, name, err)
			}
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[name] = fmt.Sprintf("%x", value[:size])
		}
		return enc.Encode(n)
	})
}
