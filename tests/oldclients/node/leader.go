package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/atomix/api/proto/atomix/database"
	"github.com/atomix/go-framework/pkg/atomix/cluster"
	"github.com/atomix/go-framework/pkg/atomix/errors"
	"github.com/atomix/go-framework/pkg/atomix/primitive"
	"github.com/atomix/go-framework/pkg/atomix/stream"
	log "github.com/sirupsen/logrus"
)

// leadership is in the place of Raft: the member of the lowest name leads all partitions for ever, and keeps what clients tell it in
// memory. The others answer as followers of the old nodes did, that the leader is another, and where it is: by its host and port in
// cluster.json. What the leader was told is lost with it, and nobody leads while it is away.
type leadership struct {
	leader     string
	partitions map[primitive.PartitionID]*partition
}

func leaderOf(config *database.DatabaseConfig) *leadership {
	leader := config.Replicas[0].ID
	for _, member := range config.Replicas {
		leader = min(leader, member.ID)
	}
	all := &leadership{leader: leader, partitions: make(map[primitive.PartitionID]*partition)}
	for _, id := range config.Partitions {
		all.partitions[primitive.PartitionID(id.Partition)] = &partition{id: primitive.PartitionID(id.Partition)}
	}
	return all
}

// Start is called by the framework before clients can connect.
func (all *leadership) Start(members cluster.Cluster, registry primitive.Registry) error {
	leader := members.Members[all.leader]
	for _, partition := range all.partitions {
		partition.node = members.MemberID
		partition.leads = members.MemberID == all.leader
		partition.leader = fmt.Sprintf("%s:%d", leader.Host, leader.APIPort)
		partition.state = primitive.NewManager(registry, partition)
	}
	log.Infof("%s leads", all.leader)
	return nil
}

func (all *leadership) Stop() error { return nil }

// Partition is what a request is for. The framework does not expect that there is none.
func (all *leadership) Partition(id primitive.PartitionID) primitive.Partition {
	if partition, kept := all.partitions[id]; kept {
		return partition
	}
	return stranger(id)
}

func (all *leadership) Partitions() []primitive.Partition {
	var partitions []primitive.Partition
	for _, partition := range all.partitions {
		partitions = append(partitions, partition)
	}
	return partitions
}

// partition does one thing after another, as a replicated log would have it.
type partition struct {
	id     primitive.PartitionID
	node   string
	leads  bool
	leader string

	lock  sync.Mutex
	index primitive.Index
	now   time.Time
	state *primitive.Manager
}

func (partition *partition) MustLeader() bool { return true }
func (partition *partition) IsLeader() bool   { return partition.leads }

// Leader is asked for when a client came to a follower.
func (partition *partition) Leader() string {
	log.Infof("sends a client of partition %d to %s", partition.id, partition.leader)
	return partition.leader
}

func (partition *partition) Write(_ context.Context, input []byte, stream stream.WriteStream) error {
	partition.lock.Lock()
	defer partition.lock.Unlock()
	partition.index++
	partition.now = time.Now()
	partition.state.Command(input, stream)
	return nil
}

func (partition *partition) Read(_ context.Context, input []byte, stream stream.WriteStream) error {
	partition.lock.Lock()
	defer partition.lock.Unlock()
	partition.state.Query(input, stream)
	return nil
}

// What the framework asks while it does a thing: the lock is held.
func (partition *partition) NodeID() string                     { return partition.node }
func (partition *partition) PartitionID() primitive.PartitionID { return partition.id }
func (partition *partition) Index() primitive.Index             { return partition.index }
func (partition *partition) Timestamp() time.Time               { return partition.now }

// stranger is a partition that is not kept here.
type stranger primitive.PartitionID

func (id stranger) MustLeader() bool { return false }
func (id stranger) IsLeader() bool   { return false }
func (id stranger) Leader() string   { return "" }

func (id stranger) Write(context.Context, []byte, stream.WriteStream) error {
	return errors.NewNotFound("partition %d is not kept here", id)
}

func (id stranger) Read(ctx context.Context, input []byte, stream stream.WriteStream) error {
	return id.Write(ctx, input, stream)
}
