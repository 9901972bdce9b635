// Other nodes: entered and buried, ids lent and returned, news of objects.  What they send is made up.
#pragma once

#include "situations_jobs.hpp"

namespace ray::testing {

inline u32 peer(Stage& s, u8 number = 1) {
  u8 id[ID_BYTES] = {'n', 'o', 'd', 'e', number};
  return s.c.enter_peer(id);
}
inline u32 guest(Stage& s) {
  u8 id[ID_BYTES] = {'g', 'u', 'e', 's', 't'};
  return s.c.enter_guest(peer(s), id);
}
inline ObjectIdBytes id_of(Stage& s, u32 o) { return to_id(s.m.object(o).id); }

inline std::vector<IdRef> made_up(Stage& s, u32 count, u32 owner) {
  std::vector<IdRef> refs;
  for (u32 i = 0; i < count; ++i) {
    IdRef ref{{}, owner};
    u64 words[2] = {s.random.next(), s.random.next()};
    memcpy(ref.id.data(), words, sizeof words);
    refs.push_back(ref);
  }
  return refs;
}

// Objects of that peer that the parent holds; noted as lent by it.
inline std::vector<u32> foreign(Stage& s, u32 count, u32 owner) {
  std::vector<u32> list = s.c.take_in(made_up(s, count, owner), owner);
  s.held.insert(s.held.end(), list.begin(), list.end());
  return list;
}
inline std::vector<IdRef> refs_of(Stage& s, const std::vector<u32>& list) {
  std::vector<IdRef> refs;
  for (u32 o : list) refs.push_back({id_of(s, o), owner_of(s.m.object(o))});
  return refs;
}
inline std::vector<IdTimes> times_of(Stage& s, const std::vector<u32>& list, u32 times) {
  std::vector<IdTimes> all;
  for (u32 o : list) all.emplace_back(id_of(s, o), times);
  return all;
}

inline void let_go(Stage& s, std::vector<u32> list) {
  for (u32 o : list) {
    s.c.drop_local(o);
    std::erase(s.held, o);
    std::erase_if(s.promises, [o](const Promise& p) { return p.object == o; });
  }
  s.c.flush_drops();
}

inline std::vector<News> hear(Stage& s, u32 most = 1000) {
  std::vector<News> all = s.c.news(most, 0);
  for (const News& each : all)
    if (each.object) s.c.drop_local(each.object);
  s.c.flush_drops();
  return all;
}

inline size_t wanted(Stage& s) {
  std::vector<News> all = hear(s);
  return size_t(std::count_if(all.begin(), all.end(), [](const News& n) { return n.kind == NewsKind::wanted; }));
}

// All other nodes have died.
inline void bury_peers(Stage& s) {
  for (const Remote& each : s.c.remotes(ProcessKind::peer)) s.c.bury_peer(each.index);
  while (s.h.news_head) hear(s);
  if (!s.c.remotes(ProcessKind::guest).empty()) s.board.complain("a guest has outlived its node");
}

// What was done to each object of the list was done to all that are in it.
inline void look_at_loans(Stage& s) {
  for (u8 number : {1, 2})
    for (auto count : {&Loan::lent, &Loan::noted}) {
      std::set<u32> times;
      for (u32 o : s.list)
        if (u32 l = loan::find(s.m, o, peer(s, number))) times.insert(s.m.loan(l).*count);
      if (times.size() > 1) s.board.complain("of ids lent together some are lent more often than others");
    }
}

inline Situation with_peers(const std::string& name, Step prepare, Step act, Step ready = {},
                            ProcessKind kind = ProcessKind::node_manager, Step after = nothing) {
  return {name,
          kind,
          [=](Stage& s) {
            s.board.unseen_attempts = 1;  // at a node that is not there
            peer(s, 1);
            std::vector<u32> lent = some_objects(s, 5);  // leaves records of loans to be used again
            s.c.lend(peer(s, 2), lent);
            s.c.take_back(peer(s, 2), times_of(s, lent, 1));
            prepare(s);
          },
          ready,
          {},
          act,
          true,
          true,
          [=](Stage& s) {
            after(s);
            bury_peers(s);
          }};
}

inline void add_entries(Situations& list) {
  list.push_back(with_peers("enter a peer and a guest", nothing, [](Stage& s) {
    peer(s, 3);
    if (guest(s) != guest(s)) s.board.complain("a guest has two numbers");
  }));
  list.push_back(with_peers("bury a guest", [](Stage& s) { s.x = guest(s); }, [](Stage& s) { s.c.bury_guest(s.x); }));
}

inline void add_loans(Situations& list) {
  for (u32 count : {3u, 30u})
    list.push_back(with_peers(
        "lend " + std::to_string(count) + " objects",
        [=](Stage& s) {
          s.list = some_objects(s, count);
          s.c.lend(peer(s, 2), s.list);
          std::vector<u32> all = s.list, its = foreign(s, 2, peer(s, 2));
          all.insert(all.end(), its.begin(), its.end());
          s.bytes.resize(1);
          for (u32 o : all) s.bytes[0].insert(s.bytes[0].end(), s.m.object(o).id, s.m.object(o).id + ID_BYTES);
        },
        [](Stage& s) {
          std::vector<u32> all;
          for (size_t at = 0; at < s.bytes[0].size(); at += ID_BYTES) all.push_back(s.c.resolve(&s.bytes[0][at], 0));
          s.c.lend(peer(s, 1), all);
          s.c.lend(peer(s, 2), all);
        },
        {}, ProcessKind::node_manager, count == 3 ? Step(look_at_loans) : Step(nothing)));
  auto lent = [](Stage& s) {
    s.list = some_objects(s, 9, s.random.coin() ? 3 : 5000);
    s.c.lend(peer(s, 1), s.list);
    s.c.lend(peer(s, 1), s.list);
    s.c.lend(peer(s, 2), s.list);
    for (u32 o : s.list) s.bytes.push_back({s.m.object(o).id, s.m.object(o).id + ID_BYTES});
    let_go(s, s.list);
  };
  auto told = [](Stage& s, u32 times) {
    std::vector<IdTimes> all;
    for (const auto& id : s.bytes) all.emplace_back(to_id(id.data()), times);
    all.emplace_back(made_up(s, 1, NIL)[0].id, 1);
    return all;
  };
  list.push_back(with_peers("take back what was lent", lent, [=](Stage& s) {
    s.c.take_back(peer(s, 1), told(s, 1));
    s.c.take_back(peer(s, 2), told(s, 3));
    s.c.take_back(peer(s, 1), told(s, 1));
  }));
  list.push_back(with_peers("match loans", lent, [=](Stage& s) {
    s.c.match_loans(peer(s, 1), told(s, 1));
    s.c.match_loans(peer(s, 2), {});
    s.c.match_loans(peer(s, 1), {});
  }));
  for (u32 count : {1u, 20u})
    list.push_back(with_peers("note " + std::to_string(count) + " ids that nobody refers to", nothing,
                              [=](Stage& s) { s.c.note(peer(s, 2), made_up(s, count, peer(s, 1))); }));
  list.push_back(with_peers(
      "note ids that are known, or this node's own, or gone",
      [](Stage& s) {
        s.list = foreign(s, 3, peer(s, 1));
        s.list.push_back(s.put(10));
      },
      [](Stage& s) {
        std::vector<IdRef> refs = refs_of(s, s.list);
        for (const IdRef& ref : made_up(s, 2, NIL)) refs.push_back(ref);
        s.c.note(peer(s, 2), refs);
        s.c.note(peer(s, 1), refs);
      }));
  for (bool noted : {false, true})
    list.push_back(with_peers(
        noted ? "note ids once more" : "note ids that have come without a lender",
        [=](Stage& s) {
          s.list = s.c.take_in(made_up(s, 3, peer(s, 1)), noted ? peer(s, 1) : NIL);
          s.held.insert(s.held.end(), s.list.begin(), s.list.end());
        },
        [](Stage& s) { s.c.note(peer(s, 1), refs_of(s, s.list)); }, {}, ProcessKind::node_manager, look_at_loans));
  list.push_back(with_peers(
      "forget notes",
      [](Stage& s) {
        s.list = foreign(s, 10, peer(s, 1));
        s.c.note(peer(s, 2), refs_of(s, s.list));
        s.c.lend(peer(s, 2), {s.list.data(), 4});
      },
      [](Stage& s) {
        for (u8 from : {2, 1}) {
          std::vector<ObjectIdBytes> ids;
          for (u32 o : s.list) ids.push_back(id_of(s, o));
          if (s.c.forget_notes(peer(s, from), ids).size() > s.list.size()) s.board.complain("too much is returned");
        }
      }));
}

inline void add_news(Situations& list) {
  list.push_back(with_peers(
      "drop the last reference to another node's object", [](Stage& s) { s.list = foreign(s, 4, peer(s, 1)); },
      drop_all, [](Stage& s) { s.list = take_all(s, s.list); }));
  list.push_back(with_peers(
      "drop another node's values, with ids in them",
      [](Stage& s) {
        s.list = foreign(s, 4, peer(s, 1));
        std::vector<u32> nested = foreign(s, 9, peer(s, 2));
        for (u32 o : s.list) {
          std::vector<u8> bytes = bytes_of(1, 300);
          s.c.seal(o, Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST}, nested);
        }
        let_go(s, nested);
      },
      drop_all, [](Stage& s) { s.list = take_all(s, s.list); }));
  list.push_back(with_peers(
      "hear of ids that nobody refers to any more",
      [](Stage& s) {
        s.list = foreign(s, 6, peer(s, 1));
        for (u8 n = 2; n < 18; ++n) s.c.note(peer(s, n), refs_of(s, {s.list[0], s.list[1]}));
        s.x = foreign(s, 1, peer(s, 1))[0];
        let_go(s, s.list);
        for (u32 lost : s.c.take_in(made_up(s, 1, NIL))) s.c.drop_local(lost);  // this node's own, and gone
      },
      [](Stage& s) { hear(s); }));
  list.push_back(with_peers(
      "hear of one that is referred to again",
      [](Stage& s) {
        std::vector<u32> both = foreign(s, 2, peer(s, 1));
        std::vector<IdRef> refs = refs_of(s, both);
        let_go(s, both);
        s.held.push_back(s.c.take_in({&refs[0], 1}, peer(s, 2))[0]);
      },
      [](Stage& s) { hear(s); }));
  for (bool task : {false, true})
    list.push_back(with_peers(
        task ? "submit what waits for another node's object" : "wait for another node's objects",
        [](Stage& s) { s.list = foreign(s, 3, peer(s, 1)); },
        [=](Stage& s) {
          if (task) {
            Options o;
            o.deps = s.list;
            o.may_fail = true;
            s.submit({Act::value, s.new_tag(), 0, 4}, o);
          } else {
            s.c.wait_some(s.list, 2, wait::Deadline(1));
          }
        },
        [](Stage& s) { s.list = take_all(s, s.list); }, ProcessKind::node_manager,
        [](Stage& s) {
          s.c.wait_some(s.list, 3, wait::Deadline(1));
          if (wanted(s) < s.list.size()) s.board.complain("what is waited for is not asked for");
        }));
  list.push_back(with_peers(
      "a value that was wanted comes",
      [](Stage& s) {
        s.list = foreign(s, 2, peer(s, 1));
        Options on;
        on.deps = {s.list[0]};
        on.may_fail = true;
        s.task(Act::value, 0, on);
      },
      [](Stage& s) {
        for (u32 o : s.list) {
          std::vector<u8> bytes = bytes_of(1, 40);
          s.c.seal(o, Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST}, {});
        }
        hear(s);
      },
      [](Stage& s) { s.list = take_all(s, s.list); }));
  list.push_back(with_peers(
      "what is wanted is news again",
      [](Stage& s) {
        Options on;
        on.deps = foreign(s, 2, peer(s, 1));
        on.may_fail = true;
        s.task(Act::value, 0, on);
        hear(s);
      },
      [](Stage& s) {
        s.c.renew_news(peer(s, 1));
        hear(s);
      }));
}

inline void add_peer_burials(Situations& list) {
  auto bury = [](Stage& s) { s.c.bury_peer(peer(s, 1)); };
  list.push_back(with_peers(
      "bury a peer that owns objects, has lent and borrowed",
      [](Stage& s) {
        guest(s);
        std::vector<u32> own = some_objects(s, 5, 300), its = foreign(s, 5, peer(s, 1));
        s.c.lend(peer(s, 1), own);
        s.c.lend(peer(s, 2), its);
        s.c.note(peer(s, 2), refs_of(s, its));
        std::vector<u8> bytes = bytes_of(1, 40);
        s.c.seal(its[0], Value{bytes.data(), bytes.size(), NIL, FORMAT_TEST}, {});
        Options on;
        on.deps = {its[1], its[2]};
        on.may_fail = true;
        for (u32 n = 0; n < 11; ++n) s.task(Act::value, 0, on);
        let_go(s, {own[0], own[1], its[4]});
      },
      bury));
}

inline void add_peer_situations(Situations& list) {
  add_entries(list);
  add_loans(list);
  add_news(list);
  add_peer_burials(list);
}

}  // namespace ray::testing
