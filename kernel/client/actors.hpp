// What an actor's process says of itself, and the end of one.
#pragma once

#include "client.hpp"

namespace ray {

inline u32 Client::own_actor() {
  u32 a = m().thread(thread()).actor;
  if (!a) throw KernelError("this process serves no actor");
  return a;
}

inline void Client::actor_failed(const Value& v) {
  must_be_open();
  u32 th = thread();
  u32 a = own_actor();
  u32 o = put(v, {});
  {
    Transaction t(m(), th);
    Actor& actor = m().actor(a);
    object::reference(t, o);
    t.set(actor.failure, o);
    mailbox::die(t, a, SystemFailure::actor_died, 0, pid_);
    journal::append(t, {JournalKind::error, u32(job()), v.format, nullptr, 0, o});
    t.commit();
  }
  drop_local(o);
  drain();
}

inline void Client::checkpoint(const Value& v, std::span<const u32> nested, bool leaves) {
  must_be_open();
  u32 th = thread();
  u32 a = own_actor();
  u32 o = put(v, nested);
  {
    Transaction t(m(), th);
    Actor& actor = m().actor(a);
    object::reference(t, o);
    u32 old = actor.checkpoint;
    t.set(actor.checkpoint, o);
    t.set(actor.covered, actor.reached);
    mailbox::forget_done(t, actor);
    bool served = owner_of(m().object(actor.object));
    if (leaves && served && actor.state == ACTOR_ALIVE) mailbox::die(t, a, SystemFailure::actor_left, 0, 0);
    if (served) news::tell_behind(t, actor.object);
    if (old) object::unreference(t, old);
    t.commit();
  }
  drop_local(o);
  drain();
}

inline u32 Client::kill_actor(u32 actor_object) {
  must_be_open();
  must_be_actor(actor_object);
  u32 a = m().object(actor_object).actor;
  u32 pid = 0;
  {
    Transaction t(m(), thread());
    // Calls of this node to an actor that it serves take no way around by the owner, so its end takes none either.
    u32 here = mailbox::served_here(m(), a);
    Actor& actor = m().actor(here);
    if (actor.state != ACTOR_AWAY) {
      if (actor.thread) pid = m().process(m().thread(actor.thread).process).pid;
      if (actor.state != ACTOR_DEAD) mailbox::die(t, here, SystemFailure::actor_killed, 0, pid);
      if (pid) t.set(h_.jobs_ended, h_.jobs_ended + 1);  // the caller may be of a user who may not end that process
    }
    t.commit();
  }
  {
    Transaction t(m(), thread());
    if (m().actor(a).state == ACTOR_AWAY) mailbox::end_away(t, a);
    t.commit();
  }
  drain();
  return pid;
}

}  // namespace ray
