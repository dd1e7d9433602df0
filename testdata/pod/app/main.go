// Prose-app-web stands in for upstream's web app image: nginx with static files.
package main

import (
	"embed"
	"io/fs"
	"log"

	"github.com/prose-im/prose-image/testdata/pod/web"
)

//go:embed static
var static embed.FS

func main() {
	log.SetFlags(0)
	files, err := fs.Sub(static, "static")
	if err == nil {
		err = web.Serve("0.0.0.0:8080", web.Files(files, 0))
	}
	if err != nil {
		log.Fatalf("nginx: [emerg] %v", err)
	}
}
