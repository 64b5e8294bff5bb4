package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"first.era/api/proto/atomix/controller"
	"github.com/atomix/api/proto/atomix/database"
	"github.com/gogo/protobuf/jsonpb"
	"github.com/gogo/protobuf/proto"
	"github.com/gogo/protobuf/types"
)

// readCluster reads who the members are and which partitions they keep: cluster.json. A field that the message of the time does not
// have is an error. So the list of members has one name for nodes of the first era, and another for all others.
func readCluster(path string, first bool) (*database.DatabaseConfig, error) {
	if !first {
		cluster := &database.DatabaseConfig{}
		return cluster, read(path, cluster)
	}
	old := &controller.ClusterConfig{}
	if err := read(path, old); err != nil {
		return nil, err
	}
	cluster := &database.DatabaseConfig{}
	for _, member := range old.Members {
		cluster.Replicas = append(cluster.Replicas, database.ReplicaConfig{
			ID: member.ID, Host: member.Host, APIPort: member.APIPort, ProtocolPort: member.ProtocolPort,
		})
	}
	for _, partition := range old.Partitions {
		cluster.Partitions = append(cluster.Partitions, database.PartitionId{Partition: partition.Partition})
	}
	return cluster, nil
}

// protocolConfig is atomix.raft.config.ProtocolConfig, which stood in the node's own module: all is optional.
type protocolConfig struct {
	ElectionTimeout   *types.Duration `protobuf:"bytes,1,opt,name=election_timeout,json=electionTimeout,proto3"`
	HeartbeatInterval *types.Duration `protobuf:"bytes,2,opt,name=heartbeat_interval,json=heartbeatInterval,proto3"`
	SnapshotInterval  *types.Duration `protobuf:"bytes,3,opt,name=snapshot_interval,json=snapshotInterval,proto3"`
	SnapshotThreshold uint64          `protobuf:"varint,4,opt,name=snapshot_threshold,json=snapshotThreshold,proto3"`
}

func (config *protocolConfig) Reset()         { *config = protocolConfig{} }
func (config *protocolConfig) String() string { return proto.CompactTextString(config) }
func (config *protocolConfig) ProtoMessage()  {}

// readProtocol reads how the members agree: protocol.json. Nothing is done with it, as nobody must agree here.
func readProtocol(path string) error {
	if text, err := os.ReadFile(path); err == nil && len(text) == 0 {
		return nil // all is as by default
	}
	return read(path, &protocolConfig{})
}

// read reads a message as protobuf writes it in JSON; a field that it does not have is an error.
func read(path string, message proto.Message) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := jsonpb.Unmarshal(bytes.NewReader(text), message); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// memberOf says where the member of this name is. It must have all that others need to reach it, and so must they.
func memberOf(cluster *database.DatabaseConfig, id string) (*database.ReplicaConfig, error) {
	var found *database.ReplicaConfig
	for i := range cluster.Replicas {
		member := &cluster.Replicas[i]
		if member.ID == "" || member.Host == "" || member.APIPort == 0 || member.ProtocolPort == 0 {
			return nil, fmt.Errorf("a member lacks its name, host or ports: %v", member)
		}
		if member.ID == id {
			found = member
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%q is no member of %v", id, cluster.Replicas)
	}
	if len(cluster.Partitions) == 0 {
		return nil, fmt.Errorf("%q keeps no partition", id)
	}
	return found, nil
}

func partitionsOf(cluster *database.DatabaseConfig) string {
	var ids []string
	for _, partition := range cluster.Partitions {
		ids = append(ids, fmt.Sprint(partition.Partition))
	}
	return strings.Join(ids, ", ")
}
