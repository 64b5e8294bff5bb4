// Old-node stands in for the storage nodes of 2020, whose images cannot be had any more: what they read of the rendered files is read
// here, as strictly, into the messages of the API modules that were published with them, and what clients say to them about sessions and
// locks is answered by the framework that was published with them. In the place of Raft is one leader that never changes: see leader.go.
//
//	old-node [-first-era] NODE_ID CLUSTER_JSON PROTOCOL_JSON
//
// The arguments are those of the rendered pod. -first-era stands in for images of v0.1, such as atomix/raft-replica, and belongs into
// the image's entry point. Called by the name stat, it says whether a file is there: the rendered probe expects that in the image.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/atomix/go-framework/pkg/atomix"
	"github.com/atomix/go-framework/pkg/atomix/lock"
	log "github.com/sirupsen/logrus"
)

func main() {
	if filepath.Base(os.Args[0]) == "stat" {
		stat(os.Args[1:])
		return
	}
	first := flag.Bool("first-era", false, "read what images of v0.1 read: a list of members, not of replicas")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: %s [-first-era] NODE_ID CLUSTER_JSON PROTOCOL_JSON\n", os.Args[0])
	}
	flag.Parse()
	if flag.NArg() != 3 {
		flag.Usage()
		os.Exit(2)
	}
	log.SetOutput(os.Stdout)
	if err := serve(flag.Arg(0), flag.Arg(1), flag.Arg(2), *first); err != nil {
		fmt.Fprintln(os.Stderr, "old-node:", err)
		os.Exit(1)
	}
}

// serve answers until it is told to end. Once it does, the framework makes the file /tmp/atomix-ready.
func serve(id, clusterPath, protocolPath string, first bool) error {
	cluster, err := readCluster(clusterPath, first)
	if err != nil {
		return err
	}
	if err := readProtocol(protocolPath); err != nil {
		return err
	}
	member, err := memberOf(cluster, id)
	if err != nil {
		return err
	}
	if member.ProtocolPort != member.APIPort { // nodes that keep nothing have one port
		if err := listen(member.ProtocolPort); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	node := atomix.NewNode(id, cluster, leaderOf(cluster), atomix.WithPort(int(member.APIPort)))
	lock.RegisterPrimitive(node)
	if err := node.Start(); err != nil {
		return err
	}
	log.Infof("%s serves partitions %s", id, partitionsOf(cluster))
	<-ended
	return nil
}

// listen takes connections where members of a Raft cluster would talk with each other. Nobody has anything to say there: the probe of the
// pod asks whether somebody listens.
func listen(port int32) error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				log.Fatalf("nobody can connect to port %d any more: %v", port, err)
			}
			connection.Close()
		}
	}()
	return nil
}

func stat(paths []string) {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
