// Command etcd is etcd's own server.
//
// It has a module of its own because etcd's server and Kubernetes need different versions of their
// shared dependencies.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
