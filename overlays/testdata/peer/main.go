// Command peer stands for any container: it answers over HTTP on the ports that
// it is told, and fetches.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: peer listen PORT... | peer get URL")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "listen":
		failed := make(chan error)
		for _, port := range os.Args[2:] {
			go func() {
				failed <- http.ListenAndServe(":"+port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "peer") }))
			}()
		}
		fmt.Fprintln(os.Stderr, <-failed)
		os.Exit(1)
	case "get":
		c := http.Client{Timeout: 3 * time.Second}
		r, err := c.Get(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, r.Body)
		r.Body.Close()
	}
}
