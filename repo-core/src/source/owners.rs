//! Names of users and groups of this machine, from wherever the system has them (files, LDAP, …).

use super::OwnerNames;

/// Names of these numbers. Those that have none, or one that is not UTF-8, are left out.
pub(super) fn look_up(users: &[u32], groups: &[u32]) -> OwnerNames {
    let user = |&number: &u32| Some((number, uzers::get_user_by_uid(number)?.name().to_str()?.to_owned()));
    let group = |&number: &u32| Some((number, uzers::get_group_by_gid(number)?.name().to_str()?.to_owned()));
    OwnerNames { users: users.iter().filter_map(user).collect(), groups: groups.iter().filter_map(group).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_super_user_has_a_name_and_nobody_else_is_made_up() {
        let names = look_up(&[0, 4_294_000_001], &[0, 4_294_000_001]);
        assert_eq!(names.users.into_iter().collect::<Vec<_>>(), [(0, "root".to_owned())]);
        assert_eq!(names.groups.len(), 1);
    }
}
