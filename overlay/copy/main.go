// copy writes the server of its image into a folder. The init container of an endpoint's pod runs it: /copy FOLDER
//
// It runs as any user that may write to the folder, and can run again after an interruption. Every user may read the
// copies.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const server = "server" // the folder beside this program

func main() {
	if len(os.Args) != 2 {
		fail("usage: copy FOLDER")
	}
	program, err := os.Executable()
	if err == nil {
		err = copyServer(os.DirFS(filepath.Dir(program)), os.Args[1])
	}
	if err != nil {
		fail(fmt.Sprintf("the server could not be copied to %s: %v", os.Args[1], err))
	}
}

func copyServer(image fs.FS, target string) error {
	return fs.WalkDir(image, server, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(target, name)
		if entry.IsDir() {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			return os.Chmod(path, 0o755) // whatever the umask is
		}
		content, err := fs.ReadFile(image, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
		return os.Chmod(path, 0o644)
	})
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(1)
}
