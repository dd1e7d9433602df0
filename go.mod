module github.com/prose-im/prose-image

go 1.26.0
